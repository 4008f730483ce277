"""Metrics of cross-entropy: nats, perplexity, bits per character. Targets 0 are padding.

B batch, T time, V vocabulary. All three come from one sum of nats.
"""

from __future__ import annotations

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerasrnn")
class Nats(keras.metrics.Metric):
    """Mean -ln p(target) per token; y_true int [B, T], 0 for padding; y_pred logits [B, T, V].

    >>> metric = Nats()
    >>> metric.update_state([[1, 0]], [[[0.0, 0.0], [5.0, 9.0]]])
    >>> round(float(metric.result()), 4)
    0.6931
    """

    def __init__(self, name: str = "nats", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def units(self, y_true):
        """How much each target counts in the divisor of the mean: float [B, T], here 1."""
        return ops.ones_like(y_true, dtype=self.dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "int32")
        logits = ops.cast(y_pred, self.dtype)
        nats = keras.losses.sparse_categorical_crossentropy(y_true, logits, from_logits=True)
        real = ops.cast(ops.not_equal(y_true, 0), self.dtype)
        nats, units = nats * real, self.units(y_true) * real
        if sample_weight is not None:
            weight = ops.cast(sample_weight, self.dtype)
            if ops.ndim(weight) == 1 and ops.ndim(nats) == 2:
                weight = weight[:, None]  # one number for all targets of a row
            nats, units = nats * weight, units * weight
        self.total.assign_add(ops.sum(nats))
        self.count.assign_add(ops.sum(units))

    def result(self):
        return ops.divide_no_nan(self.total, self.count)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Perplexity(Nats):
    """exp(mean nats per token); arguments as for `Nats`."""

    def __init__(self, name: str = "perplexity", **kwargs):
        super().__init__(name=name, **kwargs)

    def result(self):
        return ops.exp(super().result())


@keras.saving.register_keras_serializable(package="kerasrnn")
class BitsPerCharacter(Nats):
    """Mean -log2 p(target) per character of the text that the targets stand for.

    Args:
        characters: how many characters each id stands for, V ints.

    >>> metric = BitsPerCharacter([0, 1, 3, 1])
    >>> metric.update_state([[1, 2]], [[[0.0] * 4, [0.0] * 4]])
    >>> float(metric.result())  # 4 bits over 4 characters
    1.0
    """

    def __init__(self, characters: list[int], name: str = "bits_per_character", **kwargs):
        super().__init__(name=name, **kwargs)
        self.characters = [int(n) for n in characters]

    def units(self, y_true):
        return ops.take(ops.convert_to_tensor(self.characters, self.dtype), y_true)

    def result(self):
        return super().result() / math.log(2)

    def get_config(self):
        return {**super().get_config(), "characters": self.characters}
