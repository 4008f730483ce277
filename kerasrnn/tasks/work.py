"""What a task does with files and models: the base classes of each task's `work.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import keras

from kerasrnn.tasks.job import CommonJob
from kerasrnn.tasks.session import TrainingSession
from kerasrnn.tasks.task import Task
from kerasrnn.tasks.training import Data, Monitoring


class Examples(ABC):
    """The data of a training, as a job's files have it.

    Attributes:
        batches: in an epoch.
        said: what was read, in a line.
    """

    batches: int
    said: str

    @abstractmethod
    def make(self, steps: int) -> keras.Model:
        """A new compiled model; `steps` is the length of all training."""

    @abstractmethod
    def place(self, run: Path, model: keras.Model) -> None:
        """Put what is read while training into the run folder."""

    @abstractmethod
    def data(self) -> Data:
        """What a model is trained and validated on; after `place`."""

    @abstractmethod
    def monitoring(self, model: keras.Model) -> Monitoring:
        """What is measured and shown while the model trains."""

    def carried(self, model: keras.Model):
        """The state that the model carries from batch to batch; None for none."""
        return None


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
    def evaluate(self, run: str | Path, say: Callable[[str], None], **options) -> dict:
        """The scores of a run's best model.

        Args:
            run: the run folder.
            say: called with a message, for example about data that was left out.
            options: those that `kerasrnn evaluate` has for the task; None where one is not given,
                and then the model is measured on what it was validated on.

        Raises:
            InputError: when the run or a file cannot be used.
        """

    @abstractmethod
    def measure_of(self, run, model: keras.Model, say, **options) -> Callable:
        """(ONNX file, kind of quantization or None) -> its scores; arguments as `evaluate`."""
