"""Find the first layer or gradient of a training step that is NaN or infinite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.compat.keras import layers_of


class NotFinite(InputError):
    """The loss is NaN or infinite.

    Attributes:
        loss: its value.
        epoch, batch: where it appeared, both counted from 1.
    """

    def __init__(self, loss: float, epoch: int, batch: int, where: str = ""):
        self.loss, self.epoch, self.batch = loss, epoch, batch
        received = f"{loss} in epoch {epoch}, batch {batch}{where}"
        next_step = "lower it, or clip_at"
        super().__init__("learning_rate", "a loss that stays finite", received, next_step)


def _is_finite(value) -> bool:
    """Return whether all numbers of a tensor are finite; integers always are."""
    value = tf.convert_to_tensor(value.values if isinstance(value, tf.IndexedSlices) else value)
    if not value.dtype.is_floating:
        return True
    return bool(np.isfinite(tf.cast(value, tf.float64).numpy()).all())


@contextlib.contextmanager
def _watched(model: keras.Model) -> Iterator[list[str]]:
    """Yield a list that collects the paths of layers whose output is not finite, in call order.

    A layer is added when its call ends, so inner layers come before the layer that holds them.
    """
    faulty_layers: list[str] = []

    def watch(layer):
        original_call = layer.call

        def call(*args, **kwargs):
            output = original_call(*args, **kwargs)
            if not all(_is_finite(x) for x in keras.tree.flatten(output) if x is not None):
                faulty_layers.append(layer.path)
            return output

        object.__setattr__(layer, "call", call)

    layers = layers_of(model, include_self=False)
    for layer in layers:
        watch(layer)
    try:
        yield faulty_layers
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def first_not_finite(model: keras.Model, x, y) -> str:
    """Say in words which value of a training step on one batch is the first that is not finite.

    Weights are looked at first, then the outputs of the layers, then the loss, then the
    gradients, from the last weight to the first.

    Args:
        model: compiled, with the weights from before the step.
        x, y: the batch.

    Returns:
        "the output of LAYER", "the gradient of WEIGHT" and so on; "" when all values are finite.

    >>> layers = [keras.Input((2,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([*layers, keras.layers.Lambda(lambda x: x / 0.0, name="b")])
    >>> model.compile("sgd", "mse")
    >>> print(first_not_finite(model, np.ones((1, 2)), np.ones((1, 1))))
    the output of ...b
    """
    for weight in model.weights:
        if not _is_finite(weight.value):
            return f"the weight {weight.path}"
    # A model that carries state between batches must begin this step with that state.
    step = getattr(model, "stepping", contextlib.nullcontext)
    with tf.GradientTape() as tape:
        with _watched(model) as faulty_layers, step():
            logits = model(x, training=True)
        loss = model.compute_loss(x, y, logits, training=True)
    if faulty_layers:
        return f"the output of {faulty_layers[0]}"
    if not _is_finite(loss):
        return "the loss"
    weights = model.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    # Backpropagation reaches the last weights first, so a fault there is the earlier one.
    for weight, gradient in reversed(list(zip(weights, gradients, strict=True))):
        if gradient is not None and not _is_finite(gradient):
            return f"the gradient of {weight.path}"
    return ""
