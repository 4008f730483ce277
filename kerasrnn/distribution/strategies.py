"""Choose a strategy by name, and give replicas and workers their shards and a common answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.choices import STRATEGIES
from kerasrnn.base.errors import InputError
from kerasrnn.compat.classes import mix
from kerasrnn.compat.tensorflow import set_cardinality
from kerasrnn.distribution.cluster import HEARTBEAT_SECONDS, WAIT_SECONDS, Cluster, join
from kerasrnn.distribution.multi_worker import (
    GONE,
    FitsOnManyWorkers,
    WorkerLost,
    is_chief,
    is_multi_worker,
    repair_optimizer,
    worker_index,
    workers,
)


def strategy(
    name: str = "auto", *, wait: float = WAIT_SECONDS, heartbeat: float = HEARTBEAT_SECONDS
) -> tf.distribute.Strategy:
    """Return the `tf.distribute` strategy with a name.

    Args:
        name: "one-device" is TensorFlow's default. "mirrored" uses all GPUs of this machine, or
            its logical CPU devices where it has no GPU. "multi-worker" uses all machines in
            TF_CONFIG. "auto" is "multi-worker" if TF_CONFIG names several machines, else
            "mirrored" if there are several GPUs, else "one-device".
        wait: the most seconds to wait until all workers have started.
        heartbeat: seconds without a sign of a worker after which the others stop.

    Raises:
        InputError: when the name or TF_CONFIG is wrong, or a worker does not start in time.

    >>> strategy("one-device").num_replicas_in_sync
    1
    """
    if name not in STRATEGIES:
        raise InputError(
            "--strategy", f"one of {', '.join(STRATEGIES)}", name, "choose one of them"
        )
    cluster = Cluster.from_environment() if name in ("auto", "multi-worker") else None
    several = cluster is not None and len(cluster.addresses) > 1
    if name == "multi-worker" and not several:
        expected = "TF_CONFIG with several workers"
        raise InputError("--strategy multi-worker", expected, "none", "set it for each worker")
    if several:
        return join(cluster, wait, heartbeat)
    devices = [d.name for d in tf.config.list_logical_devices("GPU")]
    if name == "mirrored":
        devices = devices or [d.name for d in tf.config.list_logical_devices("CPU")]
    if name == "mirrored" or (name == "auto" and len(devices) > 1):
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def enable(model: keras.Model) -> keras.Model:
    """Make `fit`, `evaluate` and `predict` of any Keras model work on several workers.

    Models of this package work without it.

    Args:
        model: a model made inside the strategy's scope, compiled or not. It is saved under its
            own class.

    Returns:
        The same model.

    Raises:
        InputError: when `model` is not a Keras model.

    >>> model = enable(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    >>> type(model).__name__
    'Sequential'
    """
    if not isinstance(model, keras.Model):
        raise InputError("model", "a Keras model", type(model).__name__, "give one")
    mix(model, FitsOnManyWorkers)
    if model.compiled:
        repair_optimizer(model)
    return model


def distribute(
    make: Callable[[tuple[int, int]], tf.data.Dataset], strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Return a dataset for `fit` in which each replica gets its own part of every global batch.

    Args:
        make: (index, count) -> the dataset of replica `index` of `count`. The datasets of all
            replicas must have the same number of batches. Only those of this machine are made.
        strategy: the strategy in whose scope the model was made.
    """
    shards = shards_here(strategy)
    if strategy.num_replicas_in_sync == 1:
        return make(shards[0])
    parts = [make(shard) for shard in shards]
    # TensorFlow hands the elements of one dataset to this machine's replicas in turn.
    turns = tf.data.Dataset.range(len(parts)).repeat()
    interleaved = tf.data.Dataset.choose_from_datasets(parts, turns)
    dataset = strategy.distribute_datasets_from_function(lambda context: interleaved)
    # The count is that of one replica. Without a count Keras would begin one step too many. Before
    # that step fails for want of data, it may have done work that needs no data, such as adding 1
    # to Adam's number of steps.
    set_cardinality(dataset, parts[0].cardinality().numpy())
    return dataset


def shards_here(strategy: tf.distribute.Strategy) -> list[tuple[int, int]]:
    """Return the shard (index, count) of each replica of this process.

    >>> shards_here(strategy("one-device"))
    [(0, 1)]
    """
    count = strategy.num_replicas_in_sync
    local_count = count // workers(strategy)
    first = worker_index(strategy) * local_count
    return [(first + i, count) for i in range(local_count)]


def any_worker(flag: bool, strategy: tf.distribute.Strategy) -> bool:
    """Return whether the flag is True on any worker; every worker must call this."""
    if not is_multi_worker(strategy):
        return flag
    flags = _replicated(tf.constant(float(flag)), strategy)
    return float(strategy.reduce("SUM", flags, axis=None)) > 0


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Wait until all workers have called this.

    Raises:
        WorkerLost: when a worker is gone.
    """
    try:
        # The sum over all workers returns only when each of them has contributed.
        any_worker(False, strategy)
    except GONE as error:
        raise WorkerLost(error) from error


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Run the block on the chief first, then on the other workers, which can read its files.

    Raises:
        WorkerLost: when a worker is gone.
    """
    if not is_chief(strategy):
        wait_for_all(strategy)
    yield
    if is_chief(strategy):
        wait_for_all(strategy)


def _replicated(value: tf.Tensor, strategy: tf.distribute.Strategy):
    """Return the value once for each replica of this worker."""
    return strategy.experimental_distribute_values_from_function(lambda context: value)


def gather_bytes(data: bytes, strategy: tf.distribute.Strategy) -> list[bytes]:
    """Return the data of all workers, in their order; every worker must call this.

    Args:
        data: the bytes of this worker.
        strategy: of all workers.
    """
    if not is_multi_worker(strategy):
        return [data]

    def gather(values):
        return strategy.gather(_replicated(tf.constant(values), strategy), axis=0).numpy()

    sizes = gather(np.array([len(data)], np.int32))
    # Data is padded to a power of two, because TensorFlow compiles once for each length.
    padded_sizes = [1 << int(size).bit_length() for size in sizes]
    padded = np.zeros(1 << len(data).bit_length(), np.int32)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    parts = np.split(gather(padded), np.cumsum(padded_sizes)[:-1])
    replica_data = [
        part[:size].astype(np.uint8).tobytes() for part, size in zip(parts, sizes, strict=True)
    ]
    # All replicas of a worker give the same data: take one of them.
    return replica_data[:: len(strategy.extended.worker_devices)]
