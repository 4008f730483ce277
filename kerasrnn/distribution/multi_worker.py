"""Make `fit` work on several workers: only the chief writes files, and a lost worker is named."""

from __future__ import annotations

import re

import keras
import tensorflow as tf

from kerasrnn.compat.classes import mix
from kerasrnn.compat.fit import MultiWorkerSteps, SumsBeforeClipping
from kerasrnn.compat.tensorflow import in_multi_worker_mode
from kerasrnn.distribution.cluster import Cluster

# TensorFlow raises these when another worker is gone.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
TASK = re.compile(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)")
# Keras's callbacks that write files.
WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.TensorBoard,
)


class WorkerLost(RuntimeError):
    """Another worker of the cluster is gone, and training cannot continue without it.

    Args:
        error: the error of TensorFlow.
    """

    def __init__(self, error: Exception):
        cluster = Cluster.from_environment()
        index = None if cluster is None else _lost_worker(error, cluster)
        name = f"a worker is gone ({type(error).__name__})"
        if index is not None:
            name = f"worker {index} ({cluster.addresses[index]}) is gone"
        super().__init__(f"{name}; start all workers again with the same command")


def _lost_worker(error: Exception, cluster: Cluster) -> int | None:
    """Return the index of the worker that is gone, or None if that is unknown."""
    others = [index for index in range(len(cluster.addresses)) if index != cluster.index]
    # The message also names the worker that reports the error, which is often this one.
    named = [cluster.index_of(job, int(task)) for job, task in TASK.findall(str(error))]
    candidates = others if len(others) == 1 else [index for index in named if index in others]
    return candidates[0] if candidates else None


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Return whether the strategy runs on several processes."""
    return in_multi_worker_mode(strategy)


def worker_index(strategy: tf.distribute.Strategy | None = None) -> int:
    """Return the index of this process among the workers; the chief is 0.

    Args:
        strategy: without several processes the index is 0. By default TF_CONFIG alone decides.
    """
    if strategy is not None and not is_multi_worker(strategy):
        return 0
    cluster = Cluster.from_environment()
    return 0 if cluster is None else cluster.index


def workers(strategy: tf.distribute.Strategy) -> int:
    """Return the number of processes that train together."""
    return len(Cluster.from_environment().addresses) if is_multi_worker(strategy) else 1


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """Return whether this process writes files: it is the first worker, or the only one."""
    return worker_index(strategy) == 0


class _Restore(keras.callbacks.Callback):
    """The part of Keras's `BackupAndRestore` that restores; it writes no backup."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def set_model(self, model):
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self.callback.on_train_begin(logs)


def without_writers(callbacks) -> list:
    """Return the callbacks without Keras's own that write files, for all workers but the chief.

    Args:
        callbacks: one callback, a list of them, or None.
    """
    remaining = []
    for callback in keras.tree.flatten([] if callbacks is None else callbacks):
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            # Every worker must go back to the same epoch, so it still restores.
            remaining.append(_Restore(callback))
        elif not isinstance(callback, WRITERS):
            remaining.append(callback)
    return remaining


class FitsOnManyWorkers(MultiWorkerSteps):
    """A mixin for a model, so that `fit`, `evaluate` and `predict` work on several workers.

    Raises:
        WorkerLost: in these methods, when another worker is gone.
    """

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        repair_optimizer(self)

    def fit(self, *args, callbacks=None, **kwargs):
        if not is_chief(self.distribute_strategy):
            callbacks = without_writers(callbacks)
        return self._call_or_lost(super().fit, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, *args, **kwargs):
        return self._call_or_lost(super().evaluate, *args, **kwargs)

    def predict(self, *args, **kwargs):
        return self._call_or_lost(super().predict, *args, **kwargs)

    def _call_or_lost(self, function, *args, **kwargs):
        """Call a function, and raise `WorkerLost` when it fails because a worker is gone."""
        if not is_multi_worker(self.distribute_strategy):
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except GONE as error:
            raise WorkerLost(error) from error


def repair_optimizer(model) -> None:
    """Make the optimizer of a compiled model sum gradients over replicas before it clips them."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    limits = ("clipnorm", "clipvalue", "global_clipnorm")
    clips = any(getattr(optimizer, name, None) is not None for name in limits)
    if clips and model.distribute_strategy.num_replicas_in_sync > 1:
        mix(optimizer, SumsBeforeClipping)
