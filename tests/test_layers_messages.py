"""What a recurrent layer says to those who hold it wrongly, and where a stateful one begins."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasrnn import cells
from kerasrnn.attention.cells import BahdanauCell
from kerasrnn.attention.scores import Additive, Dot
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import values

B, T, D, H = 2, 5, 3, 4


class Stepping(cells.Cell):
    """A cell whose step is given as a function."""

    state_size = output_size = D

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def project(self, x, training=None):
        return x

    def step(self, z, state, linear):
        return self.function(z, state)


@pytest.mark.parametrize(
    ("cell", "x", "message"),
    [
        (cells.GRU(H), (B, D), "a recurrent layer before this one needs return_sequences=True"),
        (
            cells.GRU(H),
            (B, T, 7, D),
            r"GRU.step failed on z of shapes \[\(None, 7, 4\), .*\] \(one feature axis is usual: "
            r"\[batch, time, features\]\) and a state of shapes \[\(None, 4\)\]",
        ),
        (
            Stepping(lambda z, h: h + z),
            (B, T, D),
            r"Stepping.step: expected \(output, new_state\), received one tensor",
        ),
        (
            Stepping(lambda z, h: (h, h, h)),
            (B, T, D),
            r"Stepping.step: expected \(output, new_state\), received 3 values",
        ),
        (
            Stepping(lambda z, h: (h, (h, h))),
            (B, T, D),
            r"Stepping.step: expected a new state of shapes \[\(2, 3\)\]",
        ),
    ],
)
def test_wrong_inputs_and_steps(cell, x, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(cell)(values(*x))


def test_a_ragged_input():
    message = r"received a ragged one; give x.to_tensor\(\) and mask=tf.sequence_mask"
    ragged = tf.RaggedTensor.from_row_lengths(values(5, D), [2, 3])
    with pytest.raises(ValueError, match=message):
        Recurrent(cells.GRU(H))(ragged)


def test_several_states_as_arguments_of_their_own():
    class Two(cells.Cell):
        state_size, output_size = (H, H), H

        def step(self, z, h, c, linear):
            return h, (h, c)

    message = r"Two.step: expected step\(z, state, linear, \*constants\), received step\(z, h, c, l"
    with pytest.raises(ValueError, match=message + r".*several states come as one tuple: h, c ="):
        Recurrent(Two())


def test_a_memory_that_is_none():
    layer = Recurrent(BahdanauCell(cells.GRU(H), Additive(5), memory_size=6))
    with pytest.raises(ValueError, match=r"Additive.memory: expected a built attention, rec"):
        layer.cell.attention.memory(ops.ones((B, 7, 6)), ops.ones((B, 7), dtype="bool"))
    message = r"expected a Memory \(keys, values, mask\), received 1 tensors; make one with cell"
    for x in (values(B, T, D), keras.Input((T, D))):
        with pytest.raises(ValueError, match=message):
            layer(x, constants=ops.ones((B, 7, 6)))
    with pytest.raises(ValueError, match=r"expected 1 for the cell's \['memory'\], received 0"):
        layer(values(B, T, D))
    memory = Dot().memory(ops.ones((B, 7, 6)), ops.ones((B, 7), dtype="bool"))  # has no weights
    assert memory.keys.shape == (B, 7, 6)


@pytest.mark.parametrize("kind", [cells.RunningProduct, cells.RunningMaximum])
def test_a_stateful_layer_begins_with_the_cells_initial_state(kind):
    x = tf.reshape(tf.constant([2.0, -1.0, -4.0, 3.0, -0.5, -2.0]), (1, 6, 1))
    whole = Recurrent(kind(1), return_sequences=True)(x).numpy()
    layer = Recurrent(kind(1), return_sequences=True, stateful=True)
    for _ in range(2):
        parts = [layer(part).numpy() for part in (x[:, :2], x[:, 2:])]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole)
        layer.reset_state()
