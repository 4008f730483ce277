"""Every cell against a NumPy loop written from its paper."""

import keras
import numpy as np
import pytest
from keras import ops, tree

from kerasrnn.cells import CELLS, GRU, LSTM, Cell, SimpleRNN
from kerasrnn.layers import Recurrent
from tests import reference
from tests.recurrent_cases import everything, float64, mask_of, scatter, values, worst

H, D = 4, 3
PAPERS = {
    "simple_rnn": (lambda: SimpleRNN(H), reference.simple_rnn_step),
    "lstm": (lambda: LSTM(H), reference.lstm_step),
    "gru": (lambda: GRU(H), reference.gru_step),
    "gru before": (lambda: GRU(H, reset_after=False), reference.gru_before_step),
}


def ready(make):
    """A cell with weights of its own, and a state to begin with."""
    cell = make()
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    layer(values(3, 5, D))
    scatter(cell)
    sizes = tree.flatten(cell.state_size)
    state = [values(3, size, seed=20 + i) for i, size in enumerate(sizes)]
    return layer, tree.pack_sequence_as(cell.state_size, state)


@pytest.mark.parametrize("kind", ["none", "holes"])
@pytest.mark.parametrize("name", PAPERS)
def test_equals_the_paper(name, kind):
    make, step = PAPERS[name]
    with float64():
        layer, state = ready(make)
        x, mask = values(3, 5, D, seed=1), mask_of(kind)
        weights = {w.name: w.numpy() for w in layer.cell.weights}
        start = tuple(s.numpy() for s in tree.flatten(state))
        wanted, final = reference.unroll(
            step, x.numpy(), start, weights, None if mask is None else mask.numpy()
        )
        for runner in ("loop", "replay"):
            layer.runner = runner
            found = layer(x, initial_state=state, mask=mask, training=True)
            assert worst([f.numpy() for f in found], [wanted, *final]) < 1e-12


@pytest.mark.parametrize("name", PAPERS)
def test_is_a_cell_for_keras_rnn(name):
    with float64():
        layer, state = ready(PAPERS[name][0])
        stock = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
        x, options = values(3, 5, D, seed=1), {"mask": mask_of("right")}
        options["initial_state"] = tree.flatten(state)
        assert worst(everything(layer, x, **options), everything(stock, x, **options)) < 1e-12


@pytest.mark.parametrize("name", CELLS)
def test_config_makes_the_same_cell(name):
    cell = CELLS[name](H)
    again = type(cell).from_config(cell.get_config())
    assert again.get_config() == cell.get_config()


def test_the_forget_gate_starts_open():
    cell = LSTM(2)
    cell.build((None, D))
    np.testing.assert_array_equal(cell.bias, [0, 0, 1, 1, 0, 0, 0, 0])


def test_units_must_be_a_positive_integer():
    with pytest.raises(ValueError, match=r"LSTM\(units\): expected a positive integer, received 0"):
        LSTM(0)


def test_a_cell_says_what_it_misses():
    with pytest.raises(NotImplementedError, match="Cell must define project"):
        Cell().project(ops.ones((2, 3)))
