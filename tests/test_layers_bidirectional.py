"""`Bidirectional` against `keras.layers.Bidirectional` and against rows reversed one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU, LSTM
from kerasrnn.layers import Bidirectional, Recurrent
from tests.recurrent_cases import everything, float64, mask_of, scatter, values, worst

H, D = 4, 3


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [True, False])
def test_equals_keras(merge_mode, sequences):
    with float64():
        x = values(3, 5, D)
        ours = Bidirectional(
            Recurrent(LSTM(H), sequences, return_state=True), merge_mode=merge_mode
        )
        theirs = keras.layers.Bidirectional(
            keras.layers.LSTM(H, return_sequences=sequences, return_state=True), merge_mode
        )
        ours(x), theirs(x)
        scatter(theirs)
        ours.set_weights(theirs.get_weights())
        options = {
            "mask": mask_of("holes"),
            "initial_state": [values(3, H, seed=i) for i in range(1, 5)],
            "training": True,
        }
        assert worst(everything(ours, x, **options), everything(theirs, x, **options)) < 1e-12


def test_each_row_is_reversed_by_its_own_length():
    layer = Bidirectional(Recurrent(GRU(H), True), merge_mode=None)
    x, lengths = values(3, 5, D), [3, 5, 1]
    _, backward = layer(x, mask=mask_of("right"))
    for row, length in enumerate(lengths):
        alone = x[row : row + 1, :length]
        wanted = layer.backward_layer(alone)[0, ::-1]
        np.testing.assert_allclose(backward[row, :length], wanted, atol=1e-6)
        np.testing.assert_array_equal(backward[row, length:], np.zeros((5 - length, H)))


def test_saves_and_loads(tmp_path):
    inputs = keras.Input((None, D))
    layer = Bidirectional(Recurrent(GRU(H), return_state=True), merge_mode="sum")
    model = keras.Model(inputs, layer(inputs))
    scatter(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found, wanted = again(values(2, 5, D)), model(values(2, 5, D))
    assert [tuple(t.shape) for t in model.outputs] == [(None, H)] * 3
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bidirectional(keras.layers.LSTM(H)), "layer: expected a kerasrnn.layers.Recurr"),
        (lambda: Bidirectional(Recurrent(GRU(H)), merge_mode="max"), "merge_mode: expected one"),
        (
            lambda: Bidirectional(Recurrent(GRU(H)), Recurrent(GRU(H))),
            "backward_layer: expected go_backwards=True, received False",
        ),
        (
            lambda: Bidirectional(Recurrent(GRU(H)))(
                tf.ones((2, 3, D)), initial_state=tf.ones((2, H))
            ),
            "initial_state: expected 2 tensors",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
