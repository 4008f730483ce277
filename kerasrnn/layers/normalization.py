"""Batch normalisation over several replicas, whose batches may hold rows of padding.

Keras's `synchronized=True` counts all rows. Where a batch does not divide by the replicas, rows of
zeros make their parts equal, and statistics depended on the number of replicas.

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

_here = threading.local()  # each replica is traced in a thread of its own


@contextlib.contextmanager
def counting(real) -> Iterator[None]:
    """Batch normalisation inside takes its statistics from the rows that are `real`, bool [B], of
    all replicas; from all rows, as Keras does, where `real` is None."""
    _here.real = real
    try:
        yield
    finally:
        _here.real = None


def count_real_rows(network: keras.Model) -> keras.Model:
    """Let the batch normalisation in a network heed `counting`; it is saved as what it was.

    Returns:
        The network.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
            mix(layer, CountsRealRows)
    return network


class CountsRealRows:
    """A batch normalisation's mixin: see `counting`. Channels are the last axis."""

    def call(self, inputs, training=None, mask=None):
        real = getattr(_here, "real", None)
        if real is None or not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        x = ops.cast(inputs, "float32")
        mean, variance = _moments(x, real)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            before = ops.cast(moving, "float32")
            moving.assign(before * self.momentum + now * (1.0 - self.momentum))
        beta, gamma = (v if v is None else ops.cast(v, "float32") for v in (self.beta, self.gamma))
        x = ops.batch_normalization(x, mean, variance, -1, beta, gamma, self.epsilon)
        return ops.cast(x, self.compute_dtype)


def _moments(x, real):
    """Mean and variance [C] of x [B, ..., C] over the real rows of all replicas, by the same
    formula as Keras's, so that one replica gives the same."""
    weight = ops.reshape(ops.cast(real, x.dtype), (-1, *[1] * (len(x.shape) - 1)))
    axes = tuple(range(len(x.shape) - 1))
    sums = [ops.sum(weight * part, axis=axes) for part in (x, ops.square(x), ops.ones_like(x))]
    replica = tf.distribute.get_replica_context()
    total, squares, count = replica.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    mean = total / count
    return mean, ops.maximum(squares / count - ops.square(mean), 0.0)
