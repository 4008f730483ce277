"""Strategies by name, and what several replicas and workers need: shards, one voice, one sum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.compat.tensorflow import set_cardinality
from kerasrnn.distribution import multi_worker
from kerasrnn.distribution.cluster import HEARTBEAT_SECONDS, WAIT_SECONDS, Cluster, join
from kerasrnn.distribution.multi_worker import (
    WorkerLost,
    is_chief,
    is_multi_worker,
    worker_index,
    workers,
)

__all__ = [
    "STRATEGIES",
    "WorkerLost",
    "any_of",
    "chief_first",
    "distribute",
    "enable",
    "gathered",
    "is_chief",
    "is_multi_worker",
    "shards_here",
    "strategy",
    "wait_for_all",
    "worker_index",
]

STRATEGIES = ("auto", "mirrored", "multi-worker", "one-device")


def strategy(
    name: str = "auto", *, wait: float = WAIT_SECONDS, heartbeat: float = HEARTBEAT_SECONDS
) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of a name.

    Args:
        name: "one-device" is TensorFlow's default; "mirrored" all GPUs of this machine,
            or its logical CPU devices where it has none; "multi-worker" all machines that
            TF_CONFIG names; "auto" the last where TF_CONFIG names several, else "mirrored" where
            there are several GPUs.
        wait: seconds for all workers to come.
        heartbeat: seconds without a sign of a worker after which the others stop.

    Raises:
        InputError: when the name or TF_CONFIG is wrong, or workers do not come.

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
    """Let any Keras model `fit`, `evaluate` and `predict` on several workers; models of this
    package do.

    Args:
        model: made inside the strategy's scope; compiled or not. It is saved as what it was.

    Returns:
        The model.

    Raises:
        InputError: when it is no Keras model.

    >>> model = enable(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    >>> type(model).__name__
    'Sequential'
    """
    if not isinstance(model, keras.Model):
        raise InputError("model", "a Keras model", type(model).__name__, "give one")
    multi_worker.mix(model, multi_worker.FitsOnManyWorkers)
    if model.compiled:
        multi_worker.repair_optimizer(model)
    return model


def distribute(
    make: Callable[[tuple[int, int]], tf.data.Dataset], strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """What `fit` takes under a strategy: each replica its own part of every global batch.

    Args:
        make: (index, count) -> the dataset of replica `index` of `count`; all have as many
            batches, and only those of this machine's replicas are made here.
        strategy: that the model was made in.
    """
    shards = shards_here(strategy)
    if strategy.num_replicas_in_sync == 1:
        return make(shards[0])
    parts = [make(shard) for shard in shards]
    turns = tf.data.Dataset.range(len(parts)).repeat()
    taken = tf.data.Dataset.choose_from_datasets(parts, turns)
    dataset = strategy.distribute_datasets_from_function(lambda context: taken)
    # TensorFlow counts each replica's batches. Without a count Keras would ask for one step too
    # many, of which what needs no data, as Adam's count of steps, may be done before it fails.
    set_cardinality(dataset, parts[0].cardinality().numpy())
    return dataset


def shards_here(strategy: tf.distribute.Strategy) -> list[tuple[int, int]]:
    """(index, count) of the replicas of this process.

    >>> shards_here(strategy("one-device"))
    [(0, 1)]
    """
    count = strategy.num_replicas_in_sync
    here = count // workers(strategy)
    first = worker_index(strategy) * here
    return [(first + i, count) for i in range(here)]


def any_of(flag: bool, strategy: tf.distribute.Strategy) -> bool:
    """Whether the flag is set on any worker; all of them have to ask."""
    if not is_multi_worker(strategy):
        return flag
    flags = _each(tf.constant(float(flag)), strategy)
    return float(strategy.reduce("SUM", flags, axis=None)) > 0


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Come back when all workers have come here.

    Raises:
        WorkerLost: when one is gone.
    """
    try:
        any_of(False, strategy)
    except multi_worker.GONE as error:
        raise WorkerLost(error) from error


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """The chief runs the block while the others wait; then they do, and find what it wrote.

    Raises:
        WorkerLost: when a worker is gone.
    """
    if not is_chief(strategy):
        wait_for_all(strategy)
    yield
    if is_chief(strategy):
        wait_for_all(strategy)


def _each(value: tf.Tensor, strategy: tf.distribute.Strategy):
    """The same on each replica of this worker."""
    return strategy.experimental_distribute_values_from_function(lambda context: value)


def gathered(data: bytes, strategy: tf.distribute.Strategy) -> list[bytes]:
    """What each worker gives, in their order, on every one of them; all have to ask."""
    if not is_multi_worker(strategy):
        return [data]

    def of(values):
        return strategy.gather(_each(tf.constant(values), strategy), axis=0).numpy()

    sizes = of(np.array([len(data)], np.int32))
    # Of few lengths, for TensorFlow compiles once for each.
    lengths = [1 << int(size).bit_length() for size in sizes]
    mine = np.zeros(1 << len(data).bit_length(), np.int32)
    mine[: len(data)] = np.frombuffer(data, np.uint8)
    parts = np.split(of(mine), np.cumsum(lengths)[:-1])
    found = [
        part[:size].astype(np.uint8).tobytes() for part, size in zip(parts, sizes, strict=True)
    ]
    return found[:: len(strategy.extended.worker_devices)]  # a worker's replicas give the same
