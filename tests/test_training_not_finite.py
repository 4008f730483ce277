"""Where a number that is none began, in a model of four parts."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasrnn.training.not_finite import first_not_finite

X = np.array([[0.5, -2.0], [4.0, 1.0]], "float32")


def model(**changed) -> keras.Model:
    """Dense, a function, Dense, a function; some of them changed."""
    functions = {"middle": lambda x: x, "last": lambda x: x, **changed}
    parts = [keras.Input((2,)), layers.Dense(3, name="a")]
    parts += [layers.Lambda(functions["middle"], name="middle"), layers.Dense(1, name="b")]
    made = keras.Sequential([*parts, layers.Lambda(functions["last"], name="last")])
    made.compile("sgd", "mse")
    return made


def test_nothing_is_wrong():
    assert first_not_finite(model(), X, np.ones((2, 1))) == ""


@pytest.mark.parametrize("name", ["middle", "last"])
def test_the_first_layer_is_named(name):
    found = model(**{name: lambda x: keras.ops.log(x - x)})
    path = next(layer.path for layer in found.layers if layer.name == name)
    assert first_not_finite(found, X, np.ones((2, 1))) == f"the output of {path}"
    assert "call" not in vars(found.layers[0])  # nothing is left on the layers


def test_a_weight_that_was_so_before():
    made = model()
    made.layers[2].kernel.assign(np.full((3, 1), np.nan))
    assert first_not_finite(made, X, np.ones((2, 1))) == f"the weight {made.layers[2].kernel.path}"


def test_the_loss():
    assert first_not_finite(model(), X, np.full((2, 1), 1e38)) == "the loss"


def test_a_gradient():
    """√|x - x| is 0, and its slope there is not finite."""
    made = model(last=lambda x: keras.ops.sqrt(x - x))
    assert (
        first_not_finite(made, X, np.ones((2, 1))) == f"the gradient of {made.layers[2].bias.path}"
    )
