"""Train with checkpoints, so that a training that was stopped continues with the same result."""

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

from kerasrnn.distribution import any_worker, distribute, gather_bytes, is_chief, is_multi_worker
from kerasrnn.layers.carry import CarriedState
from kerasrnn.pipelines.dataset import Position, original_errors
from kerasrnn.training import checkpoints
from kerasrnn.training.checkpoints import Progress, State

SECONDS = 60.0  # the least time between two checkpoints
SHARE = 0.01  # writing checkpoints may take this share of the time
AGREE = 20  # batches between two questions among several workers: each is a collective sum


class Interrupted(Exception):
    """Training stopped because the user asked; its checkpoint is written.

    Attributes:
        exit_code: 130 after Ctrl-C, as in shells; 0 after SIGTERM, by which a scheduler stops a
            job (preemption).
    """

    def __init__(self, run: Path, progress: Progress, number: int):
        done = f"{progress.epoch} epochs and {progress.batch} batches"
        super().__init__(f"stopped after {done} in {run}; the same command goes on")
        self.exit_code = 130 if number == signal.SIGINT else 0


@dataclass
class StopRequest:
    """A request to stop.

    Attributes:
        signal: the number of the signal that asked, 0 as long as none did.
    """

    signal: int = 0


STOPPING = b"\nstopping after this batch; once more to stop at once\n"
NO_SIGNALS = "not in the main thread: Ctrl-C and SIGTERM do not write a checkpoint here"


@contextlib.contextmanager
def watch_signals(asked: StopRequest, say: Callable[[str], None]) -> Iterator[None]:
    """Note Ctrl-C and SIGTERM in `asked` while the block runs; a second one stops at once.

    Python delivers signals to the main thread only. In any other thread, as in a notebook server,
    the block runs without this, and `say` is called with a message.

    Args:
        asked: where the signal is noted.
        say: shows a message to the user.

    Raises:
        KeyboardInterrupt: at the second signal, unless the handler before this block raises.
    """

    def handle(number, frame):
        if asked.signal:
            if callable(previous[number]):
                previous[number](number, frame)
            raise KeyboardInterrupt
        asked.signal = number
        # Not `print`: the signal may have interrupted a `print` that holds the stream's lock.
        os.write(2, STOPPING)

    if threading.current_thread() is not threading.main_thread():
        say(NO_SIGNALS)
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint every minute, after each epoch and when asked to stop.

    A checkpoint holds the model, the optimizer, the seeds, the carried state, the running metrics
    and the position, so that a training that continues gives the same result as one that was
    never stopped. All workers call this callback and the chief writes, with the state of every
    worker.

    Args:
        run: the run folder.
        progress: the position of the training, which this callback moves forward.
        batches: the number of batches in an epoch.
        epochs: the number of epochs in all.
        carried: the model's training state, if it carries one.
        pending: the state of this worker in the checkpoint from which training continues.
        keep: the number of checkpoints to keep.
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
        self.asked = StopRequest()
        self.written, self.pause = time.monotonic(), SECONDS

    def on_train_begin(self, logs=None):
        if not (self.progress.epoch or self.progress.batch):
            self._save()  # a run that is killed in its first minute can continue too

    def on_epoch_begin(self, epoch, logs=None):
        seeds = self.pending.get("seed", [])
        for part, value in zip(_replica_parts(self._seeds()), seeds, strict=False):
            part.assign(value)
        if self.carried is not None and "carried" in self.pending:
            self.carried.assign(self.pending["carried"])

    def on_train_batch_end(self, batch, logs=None):
        # Keras creates the metrics in the first step. They are sums, so the sums from before the
        # interruption are added after that step.
        if self.pending:
            sums = self.pending.get("metric", [])
            parts = _replica_parts(self.model.metrics_variables)
            for part, value in zip(parts, sums, strict=False):
                part.assign_add(value)
            self.pending = {}
        self.progress.batch += 1
        if self.progress.batch == self.batches:
            return  # the end of the epoch follows, with its validation
        if is_multi_worker(self.model.distribute_strategy) and self.progress.batch % AGREE:
            return
        # Workers write and stop together, at the same batch: `any_worker` asks all of them.
        stop = self._stop_requested()
        due = time.monotonic() - self.written > self.pause
        if stop or any_worker(due, self.model.distribute_strategy):
            self._save()
        if stop:
            raise Interrupted(self.run, self.progress, self.asked.signal)

    def on_epoch_end(self, epoch, logs=None):
        self.progress.epoch, self.progress.batch = epoch + 1, 0
        stopped_early = self.model.stop_training
        self.progress.finished = stopped_early or self.progress.epoch == self.epochs
        self._save()
        if self._stop_requested() and not self.progress.finished:
            raise Interrupted(self.run, self.progress, self.asked.signal)

    def _stop_requested(self) -> bool:
        """Return whether any worker was asked to stop."""
        return any_worker(bool(self.asked.signal), self.model.distribute_strategy)

    def _seeds(self) -> list:
        """Return the states of the model's random number generators, which Keras does not save."""
        weights = {id(weight) for weight in self.model.weights}
        return [v for v in self.model.variables if id(v) not in weights]

    def _save(self) -> None:
        """Write a checkpoint, and set the pause before the next one by the time that it took."""
        begin = time.monotonic()
        state: State = {"seed": [part.numpy() for part in _replica_parts(self._seeds())]}
        # At the beginning of an epoch metrics and carried state are reset, so they are not saved.
        if self.progress.batch:
            metrics = _replica_parts(self.model.metrics_variables)
            state["metric"] = [part.numpy() for part in metrics]
            state["carried"] = [] if self.carried is None else self.carried.numpy()
        strategy = self.model.distribute_strategy
        # Every worker must call `gather_bytes`; only the chief writes.
        states = gather_bytes(checkpoints.pack(state), strategy)
        self.progress.replicas = strategy.num_replicas_in_sync
        if is_chief(strategy):
            checkpoints.write(self.run, self.progress, self.model.save, states, self.keep)
        self.written = time.monotonic()
        self.pause = max(SECONDS, (self.written - begin) / SHARE)


def _replica_parts(variables: list) -> list[tf.Variable]:
    """Return the variable of each replica on this machine, for every Keras variable."""
    values = [v.value if isinstance(v, keras.Variable) else v for v in variables]
    return [part for value in values for part in getattr(value, "values", (value,))]


class _EndOfEpoch(Exception):
    """Leaves `model.fit` after the rest of an epoch, so that `on_train_end` is not called."""


def fit(
    model: keras.Model,
    at: Callable[[Position, tuple[int, int]], tf.data.Dataset],
    valid: Callable[[tuple[int, int]], tf.data.Dataset],
    progress: Progress,
    epochs: int,
    callbacks: list,
) -> None:
    """Run `model.fit` from the position in `progress` to the end of `epochs`.

    Args:
        model: the compiled model.
        at: position and shard -> training dataset. The rest of an interrupted epoch is a separate
            dataset, which begins at the next batch.
        valid: shard -> validation dataset.
        progress: the position of the training.
        epochs: the number of epochs in all.
        callbacks: one of them must be a `Checkpoints`, which moves `progress` forward.

    Raises:
        Interrupted: when the user asked to stop.
        Exception: any error of reading the training data, as it was raised there.
    """
    strategy, callback = model.distribute_strategy, keras.callbacks.LambdaCallback

    def end_fit(*_):
        raise _EndOfEpoch

    while not progress.finished:
        position = Position(progress.epoch, progress.batch)
        if position.batch:  # first the rest of this epoch, then one `fit` for all others
            epoch_callback = callback(on_epoch_end=end_fit)
        else:
            # One dataset serves all whole epochs; it reads from `position` which epoch it is.
            epoch_callback = callback(
                on_epoch_begin=lambda epoch, _, at=position: setattr(at, "epoch", epoch)
            )
        data = distribute(lambda shard, position=position: at(position, shard), strategy)
        with contextlib.suppress(_EndOfEpoch), original_errors():
            model.fit(
                data,
                validation_data=distribute(valid, strategy),
                initial_epoch=position.epoch,
                epochs=epochs,
                # Last, because it may leave `fit` at the end of the epoch.
                callbacks=[*callbacks, epoch_callback],
                shuffle=False,
                verbose=0,
            )
