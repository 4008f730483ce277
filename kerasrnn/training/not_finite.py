"""Where a number that is none came from: the first layer, or the first gradient, of one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.compat.keras import layers_of


class NotFinite(InputError):
    """The loss is no longer a number."""

    def __init__(self, loss: float, epoch: int, batch: int, where: str = ""):
        self.loss, self.epoch, self.batch = loss, epoch, batch
        received = f"{loss} in epoch {epoch}, batch {batch}{where}"
        what = "lower it, or clip_at"
        super().__init__("learning_rate", "a loss that stays finite", received, what)


def _is_finite(value) -> bool:
    value = tf.convert_to_tensor(value.values if isinstance(value, tf.IndexedSlices) else value)
    if not value.dtype.is_floating:
        return True
    return bool(np.isfinite(tf.cast(value, tf.float64).numpy()).all())


@contextlib.contextmanager
def _watched(model: keras.Model) -> Iterator[list[str]]:
    """Names of layers whose output is not finite, in the order in which they end."""
    found: list[str] = []

    def watch(layer):
        inner = layer.call

        def call(*args, **kwargs):
            output = inner(*args, **kwargs)
            if not all(_is_finite(x) for x in keras.tree.flatten(output) if x is not None):
                found.append(layer.path)
            return output

        object.__setattr__(layer, "call", call)

    layers = layers_of(model, include_self=False)
    for layer in layers:
        watch(layer)
    try:
        yield found
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def first_not_finite(model: keras.Model, x, y) -> str:
    """What is not finite first in a training step on one batch, in words.

    Args:
        model: compiled, with the weights from before the step.
        x, y: the batch.

    Returns:
        A weight that is not finite already, else the layer whose output is not, else the loss,
        else the weight whose gradient is not; "" when all of it is finite.

    >>> layers = [keras.Input((2,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([*layers, keras.layers.Lambda(lambda x: x / 0.0, name="b")])
    >>> model.compile("sgd", "mse")
    >>> print(first_not_finite(model, np.ones((1, 2)), np.ones((1, 1))))
    the output of ...b
    """
    for weight in model.weights:
        if not _is_finite(weight.value):
            return f"the weight {weight.path}"
    step = getattr(model, "stepping", contextlib.nullcontext)  # with the state that is carried
    with tf.GradientTape() as tape:
        with _watched(model) as found, step():
            logits = model(x, training=True)
        loss = model.compute_loss(x, y, logits, training=True)
    if found:
        return f"the output of {found[0]}"
    if not _is_finite(loss):
        return "the loss"
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in reversed(list(zip(weights, gradients, strict=True))):
        if gradient is not None and not _is_finite(gradient):
            return f"the gradient of {weight.path}"
    return ""
