"""`fit` on several workers and replicas: who writes files, and a worker that is lost."""

from __future__ import annotations

import re

import keras
import tensorflow as tf

from kerasrnn.compat.classes import mix
from kerasrnn.compat.fit import MultiWorkerSteps, SumsBeforeClipping
from kerasrnn.compat.tensorflow import in_multi_worker_mode
from kerasrnn.distribution.cluster import Cluster

GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
TASK = re.compile(r"/job:(chief|worker)(?:/replica:0)?/task:(\d+)")
WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.TensorBoard,
)


class WorkerLost(RuntimeError):
    """Another worker of the cluster is gone; training cannot go on without it."""

    def __init__(self, error: Exception):
        cluster = Cluster.from_environment()
        index = None if cluster is None else _lost(error, cluster)
        name = f"a worker is gone ({type(error).__name__})"
        if index is not None:
            name = f"worker {index} ({cluster.addresses[index]}) is gone"
        super().__init__(f"{name}; start all workers again with the same command")


def _lost(error: Exception, cluster: Cluster) -> int | None:
    """Which worker an error of TensorFlow's is about: the only other one, or the first named that
    is not this one, for who tells names itself too. None where that is unknown."""
    others = [index for index in range(len(cluster.addresses)) if index != cluster.index]
    named = [cluster.index_of(job, int(task)) for job, task in TASK.findall(str(error))]
    known = others if len(others) == 1 else [index for index in named if index in others]
    return known[0] if known else None


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy is one of several processes."""
    return in_multi_worker_mode(strategy)


def worker_index(strategy: tf.distribute.Strategy | None = None) -> int:
    """Which of the workers this process is, the chief 0; by default as TF_CONFIG says."""
    if strategy is not None and not is_multi_worker(strategy):
        return 0
    cluster = Cluster.from_environment()
    return 0 if cluster is None else cluster.index


def workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together."""
    return len(Cluster.from_environment().addresses) if is_multi_worker(strategy) else 1


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """Whether this process is the one that writes files: the first worker, or the only one."""
    return worker_index(strategy) == 0


class _OnlyReads(keras.callbacks.Callback):
    """The part of `BackupAndRestore` that restores."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def set_model(self, model):
        self.callback.set_model(model)

    def on_train_begin(self, logs=None):
        self.callback.on_train_begin(logs)


def without_writers(callbacks) -> list:
    """Callbacks for a worker that is not the chief: Keras's own that write files are left out."""
    found = []
    for callback in keras.tree.flatten([] if callbacks is None else callbacks):
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            found.append(_OnlyReads(callback))
        elif not isinstance(callback, WRITERS):
            found.append(callback)
    return found


class FitsOnManyWorkers(MultiWorkerSteps):
    """A model's mixin: `fit`, `evaluate` and `predict` work on several workers and replicas."""

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        repair_optimizer(self)

    def fit(self, *args, callbacks=None, **kwargs):
        if not is_chief(self.distribute_strategy):
            callbacks = without_writers(callbacks)
        return self._or_lost(super().fit, *args, callbacks=callbacks, **kwargs)

    def evaluate(self, *args, **kwargs):
        return self._or_lost(super().evaluate, *args, **kwargs)

    def predict(self, *args, **kwargs):
        return self._or_lost(super().predict, *args, **kwargs)

    def _or_lost(self, function, *args, **kwargs):
        if not is_multi_worker(self.distribute_strategy):
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except GONE as error:
            raise WorkerLost(error) from error


def repair_optimizer(model) -> None:
    """Let the optimizer of a compiled model sum before it clips, where there are replicas."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    limits = ("clipnorm", "clipvalue", "global_clipnorm")
    clips = any(getattr(optimizer, name, None) is not None for name in limits)
    if clips and model.distribute_strategy.num_replicas_in_sync > 1:
        mix(optimizer, SumsBeforeClipping)
