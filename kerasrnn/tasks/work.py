"""What a task does with files and models: the base classes of each task's `work.py`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.arrays import array_batches
from kerasrnn.pipelines.dataset import Position, is_held_out
from kerasrnn.tasks.job import CommonJob
from kerasrnn.tasks.measuring import Known, Measured
from kerasrnn.tasks.session import TrainingSession
from kerasrnn.tasks.task import Task
from kerasrnn.tasks.training import Data, Monitoring

LARGEST = 700.0  # nats whose exponential is still a number


class Examples(ABC):
    """The data of a training, as a job's files have it.

    A subclass sets both attributes when it is made.

    Attributes:
        batches: in an epoch.
        said: what was read, in a line.
    """

    batches: int
    said: str

    @abstractmethod
    def make(self, steps: int) -> keras.Model:
        """A new compiled model; `steps` is the length of all training."""

    def place(self, run: Path, model: keras.Model) -> None:
        """Put what is read while training into the run folder; nothing where all is in memory."""
        return None

    @abstractmethod
    def data(self) -> Data:
        """What a model is trained and validated on; after `place`."""

    @abstractmethod
    def monitoring(self, model: keras.Model) -> Monitoring:
        """What is measured and shown while the model trains."""

    def carried(self, model: keras.Model):
        """The state that the model carries from batch to batch; None for none."""
        return None


def data_in_memory(
    arrays: Sequence[np.ndarray], held: int, batch_size: int, seed: int | None = None
) -> Data:
    """What a model is trained and validated on, of arrays [N, ...] of which the last is the target.

    Args:
        arrays: inputs and target.
        held: how many examples validate: some from everywhere, without a seed the first ones.
        batch_size: of both.
        seed: of the order, another in each epoch; None for the order that they have.

    Raises:
        InputError: when none is left to train on.
    """
    total = len(arrays[-1])
    if not 0 < held < total:
        received = f"{total}, of which {held} are held out"
        raise InputError("data", "an example or more to train on", received, "give more")
    is_held = [is_held_out(n, held, total) if seed is not None else n < held for n in range(total)]
    rest, chosen = np.flatnonzero(~np.array(is_held)), np.flatnonzero(is_held)

    def train(position: Position, shard: tuple[int, int]):
        def order():
            random = np.random.default_rng([seed or 0, position.epoch])
            return rest if seed is None else random.permutation(rest)

        return array_batches(arrays, batch_size, order, first=position.batch, shard=shard)

    def valid(shard: tuple[int, int]):
        return array_batches(arrays, batch_size, lambda: chosen, shard=shard)

    return Data(train, valid, -(-len(rest) // batch_size), batch_size)


class Work(ABC):
    """What a task does.

    Args:
        task: its declaration.
    """

    def __init__(self, task: Task):
        self.task = task

    def check(self, job: CommonJob) -> None:
        """Refuse what cannot be trained, besides settings, before any data is read (InputError)."""
        return None

    def digests(self, job: CommonJob) -> dict:
        """Digests of data that is not known by all its bytes, by option; None for what may be
        another each time."""
        return {}

    @abstractmethod
    def read(self, job: CommonJob, session: TrainingSession, folder: Path) -> Examples:
        """Read the data of a job into files of `folder`.

        Raises:
            InputError: when it cannot be used.
        """

    @abstractmethod
    def measured(
        self, known: Known, folder: Path, say: Callable[[str], None], few: bool = False, **options
    ) -> Measured:
        """What a model is measured on: files that the user gives, or what a run was validated on.

        Args:
            known: what is known of the model; an exported one was validated on nothing.
            folder: where files may be put while it is measured.
            say: called with a message, for example about data that was left out.
            few: whether a part is enough, that takes about a minute.
            options: those that `kerasrnn evaluate` has for the task; None where one is not given.

        Raises:
            InputError: when the run or a file cannot be used.
        """

    def judge(self, answers: Sequence[dict], references: Sequence) -> dict:
        """The scores of answers: for each batch of `Measured.cases` one by name, [B, ...]."""
        raise NotImplementedError(f"{self.task.name} judges no answers")

    def cost(self, nats: float, count: float, measured: Measured) -> dict:
        """The scores of what the truth costs, `nats` in all for `count` tokens."""
        mean = nats / count if count else 0.0
        return {"nats": mean, "perplexity": math.exp(min(mean, LARGEST))}
