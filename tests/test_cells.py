"""Every cell against a NumPy loop written from its paper."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops, tree

from kerasrnn.cells import (
    CELLS,
    GRU,
    LSTM,
    MUT1,
    Autoregressive,
    Cell,
    ExponentialAverage,
    Jordan,
    RecurrentHighway,
    RunningSum,
)
from kerasrnn.engine import replay
from kerasrnn.layers import Recurrent
from tests import reference
from tests.recurrent_cases import everything, float64, mask_of, scatter, values, worst
from tests.reference import greff_step

MASK = tf.TensorSpec([3, None], "bool")
D = H = 4  # MUT1, MUT2 and the running cells want as many features as units
PAPERS = {
    "simple_rnn": reference.simple_rnn_step,
    "jordan": reference.jordan_step,
    "lstm": reference.lstm_step,
    "peephole_lstm": greff_step("ifgo"),
    "coupled_lstm": reference.coupled_step,
    "lstm_no_input_gate": greff_step("fgo"),
    "lstm_no_forget_gate": greff_step("igo"),
    "lstm_no_output_gate": greff_step("ifg"),
    "lstm_no_input_activation": greff_step("ifgo", squash_input=False),
    "lstm_no_output_activation": greff_step("ifgo", squash_output=False),
    "lstm_coupled_peephole": greff_step("igo", coupled=True),
    "lstm_full_gate_recurrence": greff_step("ifgo", recurrence=True),
    "layer_norm_lstm": reference.layer_norm_lstm_step,
    "gru": reference.gru_step,
    "mut1": reference.mut1_step,
    "mut2": reference.mut2_step,
    "mut3": reference.mut3_step,
    "recurrent_highway": reference.highway_step,
    "running_sum": reference.running_step(np.add),
    "running_product": reference.running_step(np.multiply),
    "running_maximum": reference.running_step(np.maximum),
    "exponential_average": reference.exponential_average_step,
    "autoregressive": reference.autoregressive_step,
}
OPTIONS = {
    "gru, reset before": (GRU, {"reset_after": False}, reference.gru_before_step),
    "gru, update replaces": (GRU, {"update_replaces": True}, reference.gru_replacing_step),
    "jordan, fewer outputs": (Jordan, {"outputs": 2}, reference.jordan_step),
    "learned average": (ExponentialAverage, {"learned": True}, reference.exponential_average_step),
    "learned coefficients": (
        Autoregressive,
        {"coefficients": (0.4, -0.3, 0.2), "learned": True},
        reference.autoregressive_step,
    ),
}
CASES = {name: (CELLS[name], {}, step) for name, step in PAPERS.items()} | OPTIONS


# One of each kind of step; `make test-slow` runs the others where a test costs seconds a cell.
QUICK = {"simple_rnn", "jordan", "lstm", "peephole_lstm", "layer_norm_lstm", "gru", "mut1"}
QUICK |= {"recurrent_highway", "running_product", "autoregressive"}


def quick(names) -> list:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def test_every_cell_has_its_paper():
    assert set(PAPERS) == set(CELLS)


def ready(name):
    """A cell with weights of its own, its step from the paper, and a state to begin with."""
    make, options, step = CASES[name]
    cell = make(H, **options)
    layer = Recurrent(cell, return_sequences=True, return_state=True)
    layer(values(3, 5, D))
    scatter(cell)
    sizes = tree.flatten(cell.state_size)
    state = [values(3, size, seed=20 + i) for i, size in enumerate(sizes)]
    return layer, step, tree.pack_sequence_as(cell.state_size, state)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_paper_under_a_mask(name):
    assert_equals_the_paper(name, "holes")


@pytest.mark.parametrize("name", quick(CASES))
def test_equals_the_paper(name):
    assert_equals_the_paper(name, "none")


def assert_equals_the_paper(name, kind):
    with float64():
        layer, step, state = ready(name)
        x, mask = values(3, 5, D, seed=1), mask_of(kind)
        weights = {w.name: w.numpy() for w in layer.cell.weights}
        start = tuple(s.numpy() for s in tree.flatten(state))
        wanted, final = reference.unroll(
            step, x.numpy(), start, weights, None if mask is None else mask.numpy()
        )
        options = {"initial_state": state, "mask": mask}
        layer.runner = "loop"
        slow = everything(layer, x, training=True, **options)
        assert worst(slow[: 1 + len(final)], [wanted, *final]) < 1e-12
        layer.runner = "replay"
        for training in (True, False):
            assert worst(everything(layer, x, training=training, **options), slow) < 1e-9


def at_any_length(layer, state):
    """A function of x [3, T, D] and mask: outputs and gradients, as the layer's runner has it."""
    flat, longest = tree.flatten(state), 37

    @tf.function(input_signature=[tf.TensorSpec([3, None, D], "float64"), MASK])
    def run(x, mask):
        with tf.GradientTape() as tape:
            tape.watch([x, *flat])
            sequence, *finals = layer(x, mask=mask, initial_state=state, training=True)
            weights = values(3, longest, sequence.shape[-1], seed=30)[:, : tf.shape(x)[1]]
            loss = tf.reduce_sum(tf.sin(sequence) * weights)
            for i, final in enumerate(finals):
                loss += tf.reduce_sum(tf.sin(final) * values(*final.shape, seed=31 + i))
        return [sequence, *finals], tape.gradient(loss, [x, *flat, *layer.trainable_weights])

    return run


@pytest.mark.parametrize("name", quick(CELLS))
def test_recording_equals_the_loop_at_every_length(name, monkeypatch):
    """Traced once for all lengths, without XLA, which would compile each of them."""
    plain = replay._function
    monkeypatch.setattr(replay, "_function", lambda *args, jit=True: plain(*args, jit=False))
    with float64():
        layer, _, state = ready(name)
        functions = {}
        for layer.runner in ("loop", "replay"):
            functions[layer.runner] = at_any_length(layer, state).get_concrete_function()
        for T, share in itertools.product((1, 2, 37), (0.6, 1)):
            mask = tf.constant(np.random.default_rng(T).random((3, T)) < share)
            x = values(3, T, D, seed=T) / 2
            slow, fast = (tree.flatten(functions[r](x, mask)) for r in ("loop", "replay"))
            assert worst([f.numpy() for f in fast], [s.numpy() for s in slow]) < 1e-9


@pytest.mark.parametrize("name", quick(CASES))
def test_is_a_cell_for_keras_rnn(name):
    with float64():
        layer, _, state = ready(name)
        stock = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
        x, options = values(3, 5, D, seed=1), {"mask": mask_of("right")}
        options["initial_state"] = tree.flatten(state)
        assert worst(everything(layer, x, **options), everything(stock, x, **options)) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_config_makes_the_same_cell(name):
    make, options, _ = CASES[name]
    cell = make(H, **options)
    config = keras.saving.serialize_keras_object(cell)
    again = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(again) == config
    for name, value in options.items():
        assert again.get_config()[name] in (value, list(np.atleast_1d(value)))


@pytest.mark.parametrize("name", ["running_product", "running_maximum"])
def test_where_a_state_does_not_begin_at_zero(name):
    layer = Recurrent(CELLS[name](2), return_sequences=True)
    x = np.array([[[2.0, -3.0], [5.0, -7.0]]])
    expected = {"running_product": [[2, -3], [10, 21]], "running_maximum": [[2, -3], [5, -3]]}
    np.testing.assert_array_equal(layer(x)[0], expected[name])
    padded = layer(np.concatenate([x, x], axis=1), mask=ops.array([[False, False, True, True]]))
    np.testing.assert_array_equal(padded[0], [[0, 0], [0, 0], *expected[name]])


def test_the_forget_gate_starts_open():
    cell = LSTM(2)
    cell.build((None, D))
    np.testing.assert_array_equal(cell.bias, [0, 0, 1, 1, 0, 0, 0, 0])


def test_the_forget_gate_starts_open_wherever_it_stands():
    cell = CELLS["lstm_no_input_gate"](1)
    cell.build((None, D))
    np.testing.assert_array_equal(cell.bias, [1, 0, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(0), r"LSTM\(units\): expected a positive integer, received 0"),
        (lambda: RunningSum(1.5), r"RunningSum\(units\): expected a positive integer"),
        (lambda: RunningSum(2).build((None, 3)), "expected inputs with 2 features, received 3"),
        (lambda: MUT1(2).build((None, 3)), "MUT1: expected inputs with 2 features"),
        (lambda: RecurrentHighway(2, depth=0), "depth: expected a positive integer, received 0"),
        (lambda: ExponentialAverage(2, decay=1), r"decay: expected a number in \(0, 1\)"),
        (lambda: Autoregressive(2, coefficients=()), "coefficients: expected at least one"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_cell_says_what_it_misses():
    with pytest.raises(NotImplementedError, match="Cell must define project"):
        Cell().project(ops.ones((2, 3)))
