"""Normalise batches over several replicas without counting rows of padding.

When a batch does not divide by the number of replicas, rows of zeros are added, so that all
replicas get equally many rows. Keras's `synchronized=True` would count these rows too. Then the
statistics would depend on the number of replicas.

B batch, C channels.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.compat.classes import mix

_local = threading.local()  # TensorFlow traces each replica in a thread of its own


@contextlib.contextmanager
def only_real_rows(real) -> Iterator[None]:
    """In the block, batch normalisation counts only real rows, over all replicas.

    Args:
        real: bool [B], False at rows of padding; None counts all rows, as Keras does.
    """
    _local.real = real
    try:
        yield
    finally:
        _local.real = None


def count_real_rows(network: keras.Model) -> keras.Model:
    """Make the batch normalisation layers of a network obey `only_real_rows`; return the network.

    The layers are changed in place. They are saved as Keras's own class.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
            mix(layer, CountsRealRows)
    return network


class CountsRealRows:
    """A mixin for Keras's batch normalisation over the last axis, see `only_real_rows`."""

    def call(self, inputs, training=None, mask=None):
        real = getattr(_local, "real", None)
        # Outside training, moving averages are used and no rows are counted.
        if real is None or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, "float32")  # the sums of squares would overflow in float16
        mean, variance = _moments(x, real)
        for moving, batch_value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving_value = ops.cast(moving, "float32")
            moving.assign(moving_value * self.momentum + batch_value * (1.0 - self.momentum))
        beta, gamma = (v if v is None else ops.cast(v, "float32") for v in (self.beta, self.gamma))
        x = ops.batch_normalization(x, mean, variance, -1, beta, gamma, self.epsilon)
        return ops.cast(x, self.compute_dtype)


def _moments(x, real):
    """Return mean and variance [C] of x [B, ..., C] over the real rows of all replicas.

    mean = Σx / n, variance = Σx² / n - mean². This is Keras's formula, so that one replica without
    padding gives the same numbers.
    """
    weight = ops.reshape(ops.cast(real, x.dtype), (-1, *[1] * (len(x.shape) - 1)))
    axes = tuple(range(len(x.shape) - 1))
    # Replicas add their sums, not their means, because they may have different numbers of real
    # rows.
    sums = [ops.sum(weight * part, axis=axes) for part in (x, ops.square(x), ops.ones_like(x))]
    replica = tf.distribute.get_replica_context()
    total, squares, count = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    mean = total / count
    return mean, ops.maximum(squares / count - ops.square(mean), 0.0)  # rounding may give < 0
