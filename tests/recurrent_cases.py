"""What the tests of cells, runners and layers share: float64, cells, masks, gradients."""

import contextlib

import keras
import numpy as np
import tensorflow as tf
from keras import tree

MASKS = {
    "none": None,
    "right": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]],
    "left": [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
    "holes": [[1, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 1]],
    "all padding": [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]],
}


@contextlib.contextmanager
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def mask_of(kind):
    rows = MASKS[kind]
    return None if rows is None else tf.constant(np.array(rows, bool))


def values(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), keras.config.floatx())


def scatter(layer, seed=5, scale=0.4):
    """Give every weight values that none of them has by default."""
    rng = np.random.default_rng(seed)
    for w in layer.weights:
        w.assign(rng.normal(size=w.shape) * scale)


def looped(model):
    """The model with every recurrence as the plain loop: nothing to compile."""
    for layer in model._flatten_layers():
        if hasattr(layer, "runner"):
            layer.runner = "loop"
    return model


def relative(found, wanted):
    """The largest error relative to the largest value."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))


def everything(layer, x, **kwargs):
    """All outputs, and the gradients of a loss of them to x, states, constants and weights."""
    extra = tree.flatten((kwargs.get("initial_state"), kwargs.get("constants")))
    sources = [x, *[t for t in extra if t is not None and t.dtype.is_floating]]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = tree.flatten(layer(x, **kwargs))
        loss = tf.add_n(
            [
                tf.reduce_sum(tf.sin(o) * values(*o.shape, seed=11 + i))
                for i, o in enumerate(outputs)
            ]
        )
    gradients = tape.gradient(loss, [*sources, *layer.trainable_weights])
    return [t.numpy() for t in [*outputs, *gradients]]


def worst(found, wanted):
    assert len(found) == len(wanted)
    return max(relative(f, w) for f, w in zip(found, wanted, strict=True))
