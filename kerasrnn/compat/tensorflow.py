"""Private names of TensorFlow: time limits of workers, sizes of data sets, operators."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.eager import context
from tensorflow.python.framework import op_def_registry

from kerasrnn.compat.private import TENSORFLOW, Private

__all__ = [
    "SavedModel",
    "configure_coordination",
    "has_started",
    "in_multi_worker_mode",
    "is_stateful",
    "set_cardinality",
]

PRIVATE = (
    Private(
        "tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2.CoordinatedJob",
        "An argument of configure_coordination_service.",
        TENSORFLOW,
        "as for tensorflow.python.eager.context",
    ),
    Private(
        "tensorflow.python.eager.context",
        "MultiWorkerMirroredStrategy waits for ever for workers that do not come, and for hours "
        "for one that is dead. The limits have no public name.",
        TENSORFLOW,
        "the strategy, or tf.config, takes the limits of the coordination service",
    ),
    Private(
        "tensorflow.python.eager.context.Context._context_handle",
        "The limits can be set only before TensorFlow's first operation, and set later they do "
        "nothing, without an error. Nothing public says whether it has begun.",
        TENSORFLOW,
        "TensorFlow refuses limits that come too late, or tells whether it has begun",
    ),
    Private(
        "tensorflow.core.protobuf.saved_model_pb2.SavedModel",
        "A SavedModel is checked before it is loaded, because loading it creates its operators.",
        TENSORFLOW,
        "TensorFlow reads the graph of a SavedModel without loading it",
    ),
    Private(
        "tensorflow.python.framework.op_def_registry",
        "Whether an operator, known by its name alone, has side effects. Nothing public tells it.",
        TENSORFLOW,
        "TensorFlow tells publicly what it knows of an operator",
    ),
    Private(
        "tf.distribute.StrategyExtended._in_multi_worker_mode",
        "MultiWorkerMirroredStrategy is also the class of a strategy with one worker.",
        TENSORFLOW,
        "a strategy tells publicly how many workers it has",
    ),
    Private(
        "tf.distribute.DistributedDataset._cardinality",
        "A distributed dataset made from a function counts nothing; "
        "tf.data.experimental.assert_cardinality takes no distributed dataset.",
        TENSORFLOW,
        "the cardinality of a distributed dataset can be set",
    ),
)


def has_started() -> bool:
    """Whether TensorFlow has run its first operation. The limits have to be set before it."""
    return context.context()._context_handle is not None


def configure_coordination(jobs: dict[str, int], wait: float, heartbeat: float) -> None:
    """Set how long the workers wait for each other, before TensorFlow's first operation.

    Args:
        jobs: TensorFlow's name of a job -> its number of workers; the chief's job first.
        wait: seconds to wait until all workers have joined.
        heartbeat: seconds without a sign from one worker after which the others stop.
    """
    leader = f"/job:{next(iter(jobs))}/replica:0/task:0"
    context.context().configure_coordination_service(
        "standalone",
        leader,
        coordinated_jobs=[CoordinatedJob(name=job, num_tasks=n) for job, n in jobs.items()],
        cluster_register_timeout_in_ms=int(wait * 1000),
        heartbeat_timeout_in_ms=int(heartbeat * 1000),
        shutdown_barrier_timeout_in_ms=int(heartbeat * 1000),
    )


def in_multi_worker_mode(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy runs on several processes."""
    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and strategy.extended._in_multi_worker_mode()


def set_cardinality(dataset: tf.distribute.DistributedDataset, count: int) -> None:
    """Set the number of batches of a distributed dataset."""
    dataset._cardinality = count


def is_stateful(operator: str) -> bool | None:
    """Whether TensorFlow's operator of this name has side effects; None for an unknown name.

    >>> is_stateful("MatMul"), is_stateful("RandomUniform"), is_stateful("NoSuchOperator")
    (False, True, None)
    """
    definition = op_def_registry.get(operator)
    return None if definition is None else definition.is_stateful
