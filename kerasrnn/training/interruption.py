"""Training that can be stopped at any moment and goes on as if it never had been."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kerasrnn.distribution.strategies import any_of, distribute, gathered, is_chief, is_multi_worker
from kerasrnn.layers.carry import CarriedState
from kerasrnn.pipelines.dataset import Position, own_errors
from kerasrnn.training import checkpoints
from kerasrnn.training.checkpoints import Progress, State

SECONDS = 60.0  # between two checkpoints, at least
SHARE = 0.01  # of the time that checkpoints may take
AGREE = 20  # batches after which several workers ask each other


class Interrupted(Exception):
    """Training stopped because the user asked; the checkpoint is written.

    `exit_code` is 130 after Ctrl-C, as shells have it, and 0 after SIGTERM (preemption).
    """

    def __init__(self, run: Path, progress: Progress, number: int):
        done = f"{progress.epoch} epochs and {progress.batch} batches"
        super().__init__(f"stopped after {done} in {run}; the same command goes on")
        self.exit_code = 130 if number == signal.SIGINT else 0


@dataclass
class Asked:
    """The signal that asked to stop, 0 before."""

    signal: int = 0


STOPPING = b"\nstopping after this batch; once more to stop at once\n"
NO_SIGNALS = "not in the main thread: Ctrl-C and SIGTERM do not write a checkpoint here"


@contextlib.contextmanager
def stopping(asked: Asked, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask to stop; a second one stops at once.

    Only the main thread hears signals. In another one, as of a notebook server, training runs
    without, and `say` is told.
    """

    def ask(number, frame):
        if asked.signal:
            raise KeyboardInterrupt
        asked.signal = number
        os.write(2, STOPPING)  # `print` may have been interrupted while it held its lock

    if threading.current_thread() is not threading.main_thread():
        say(NO_SIGNALS)
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint every minute, after each epoch and when asked to stop.

    Model, optimizer, seeds, carried state, running metrics and position are written, so that
    training goes on as if it had never stopped. Of several workers all call it and the chief
    writes; what each replica keeps for itself is there for each.

    Args:
        run: the run folder.
        progress: where training stands; moved along.
        batches: in an epoch.
        epochs: in all.
        carried: the model's training state, if it carries one.
        pending: what this worker held beside the model where training goes on.
        keep: how many checkpoints stay.
    """

    def __init__(
        self,
        run: Path,
        progress: Progress,
        *,
        batches: int,
        epochs: int,
        carried: CarriedState | None = None,
        pending: State | None = None,
        keep: int = checkpoints.KEEP,
    ):
        super().__init__()
        self.run, self.progress, self.batches, self.epochs = run, progress, batches, epochs
        self.carried, self.pending, self.keep = carried, pending or {}, keep
        self.asked = Asked()
        self.written, self.pause = time.monotonic(), SECONDS

    def on_train_begin(self, logs=None):
        if not (self.progress.epoch or self.progress.batch):
            self._save()  # where to go back to from the first minute

    def on_epoch_begin(self, epoch, logs=None):
        seeds = self.pending.get("seed", [])
        for variable, value in zip(_parts(self._seeds()), seeds, strict=False):
            variable.assign(value)
        if self.carried is not None and "carried" in self.pending:
            self.carried.assign(self.pending["carried"])

    def on_train_batch_end(self, batch, logs=None):
        # Keras makes the metrics in the first step; they are sums, so what was is added then.
        if self.pending:
            metrics = self.pending.get("metric", [])
            for part, value in zip(_parts(self.model.metrics_variables), metrics, strict=False):
                part.assign_add(value)
            self.pending = {}
        self.progress.batch += 1
        if self.progress.batch == self.batches:
            return  # the end of the epoch follows, with its validation
        if is_multi_worker(self.model.distribute_strategy) and self.progress.batch % AGREE:
            return
        stop = self._asked()
        due = time.monotonic() - self.written > self.pause
        if stop or any_of(due, self.model.distribute_strategy):
            self._save()
        if stop:
            raise Interrupted(self.run, self.progress, self.asked.signal)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.epoch, self.progress.batch = epoch + 1, 0
        stopped = self.model.stop_training  # early
        self.progress.finished = stopped or self.progress.epoch == self.epochs
        self._save()
        if self._asked() and not self.progress.finished:
            raise Interrupted(self.run, self.progress, self.asked.signal)

    def _asked(self) -> bool:
        """Whether any worker was asked to stop."""
        return any_of(bool(self.asked.signal), self.model.distribute_strategy)

    def _seeds(self) -> list:
        """What the model's random numbers come from; Keras does not save it."""
        weights = {id(weight) for weight in self.model.weights}
        return [v for v in self.model.variables if id(v) not in weights]

    def _save(self) -> None:
        begin = time.monotonic()
        state: State = {"seed": [part.numpy() for part in _parts(self._seeds())]}
        if self.progress.batch:  # else an epoch begins, and with it these
            state["metric"] = [part.numpy() for part in _parts(self.model.metrics_variables)]
            state["carried"] = [] if self.carried is None else self.carried.numpy()
        strategy = self.model.distribute_strategy
        states = gathered(checkpoints.packed(state), strategy)
        self.progress.replicas = strategy.num_replicas_in_sync
        if is_chief(strategy):
            checkpoints.write(self.run, self.progress, self.model.save, states, self.keep)
        self.written = time.monotonic()
        self.pause = max(SECONDS, (self.written - begin) / SHARE)


def _parts(variables: list) -> list[tf.Variable]:
    """The variables of each replica on this machine that Keras's variables stand for."""
    own = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    return [part for variable in own for part in getattr(variable, "values", (variable,))]


class _EndOfEpoch(Exception):
    """The rest of an epoch is done; what `fit` does at its own end is not wanted."""


def fit(
    model: keras.Model,
    at: Callable[[Position, tuple[int, int]], tf.data.Dataset],
    valid: Callable[[tuple[int, int]], tf.data.Dataset],
    progress: Progress,
    epochs: int,
    callbacks: list,
) -> None:
    """`model.fit` from where `progress` stands to the end of `epochs`.

    Args:
        at: position and shard -> training dataset; an epoch that was interrupted has a dataset
            of its own, which begins at its next batch.
        valid: shard -> validation dataset.
        callbacks: a `Checkpoints` among them, which moves `progress`.

    Raises:
        Exception: what reading the training data raised.
    """
    strategy, follow = model.distribute_strategy, keras.callbacks.LambdaCallback

    def end(*_):
        raise _EndOfEpoch

    while not progress.finished:
        position = Position(progress.epoch, progress.batch)
        if position.batch:  # the rest of one epoch, then the others
            own = follow(on_epoch_end=end)
        else:
            own = follow(on_epoch_begin=lambda epoch, _, at=position: setattr(at, "epoch", epoch))
        data = distribute(lambda shard, here=position: at(here, shard), strategy)
        with contextlib.suppress(_EndOfEpoch), own_errors():
            model.fit(
                data,
                validation_data=distribute(valid, strategy),
                initial_epoch=position.epoch,
                epochs=epochs,
                callbacks=[*callbacks, own],
                shuffle=False,
                verbose=0,
            )
