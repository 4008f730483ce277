"""Recurrences in ONNX: the operators where there are some, and what they give."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn import cells
from kerasrnn.export.graphs.loops import nodes
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.layers import Bidirectional, Recurrent
from tests.recurrent_cases import MASKS, mask_of, scatter, values

B, T, D, H = 3, 5, 4, 6
NATIVE = {
    "SimpleRNN": (cells.SimpleRNN, {}),
    "SimpleRNN relu": (cells.SimpleRNN, {"activation": "relu", "use_bias": False}),
    "GRU": (cells.GRU, {}),
    "GRU without bias": (cells.GRU, {"use_bias": False, "activation": "softsign"}),
    "GRU reset before": (cells.GRU, {"reset_after": False, "activation": "leaky_relu"}),
    "GRU replacing": (cells.GRU, {"update_replaces": True}),
    "GRU hard": (cells.GRU, {"recurrent_activation": "hard_sigmoid", "activation": "elu"}),
    "LSTM": (cells.LSTM, {}),
    "LSTM hard": (cells.LSTM, {"recurrent_activation": "hard_sigmoid", "activation": "softplus"}),
    "LSTM linear": (cells.LSTM, {"activation": "linear", "use_bias": False}),
    "peephole": (cells.PeepholeLSTM, {}),
    "coupled": (cells.CoupledLSTM, {}),
    "coupled peephole": (cells.CoupledPeepholeLSTM, {}),
    "no input gate": (cells.NoInputGateLSTM, {}),
    "no forget gate": (cells.NoForgetGateLSTM, {"use_bias": False}),
    "no output gate": (cells.NoOutputGateLSTM, {"recurrent_activation": "hard_sigmoid"}),
    "no input activation": (cells.NoInputActivationLSTM, {}),
    "no output activation": (cells.NoOutputActivationLSTM, {}),
    "dropout": (lambda H: cells.Dropout(cells.GRU(H), 0.3, 0.2), {}),
}


def tanh(x):
    """Not the one that it is called."""
    return 0.5 * tf.sin(x)


LOOPS = {
    "zoneout": lambda: cells.Zoneout(cells.LSTM(H), 0.2),
    "gates by tanh": lambda: cells.NoInputGateLSTM(H, recurrent_activation="tanh"),
    "a function of one's own": lambda: cells.SimpleRNN(H, activation=tanh),
    "swish": lambda: cells.LSTM(H, activation="swish"),
    "full recurrence": lambda: cells.FullGateRecurrenceLSTM(H),
}


def converted(layer, masked: bool, states: list):
    """(operators, session) of an ONNX model that takes x, mask, states."""
    for one in layer._flatten_layers():
        one.runner = "loop"
    layer.build((None, None, D))
    scatter(layer)
    signature = [tf.TensorSpec([None, None, D], tf.float32, "x")]
    signature += [tf.TensorSpec([None, None], tf.bool, "mask")] * masked
    signature += [tf.TensorSpec([None, H], tf.float32, f"state_{i}") for i in range(len(states))]

    def function(x, *rest):
        return tf.nest.flatten(called(layer, x, masked, *rest))

    count = len(
        function(values(1, 2, D), *[tf.ones([1, 2], bool)] * masked, *[s[:1] for s in states])
    )
    model = convert(function, signature, [f"y_{i}" for i in range(count)])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return [node.op_type for node in nodes(model.graph)], session


def called(layer, x, masked, *rest):
    mask = rest[0] if masked else None
    return layer(x, mask=mask, initial_state=list(rest[masked:]) or None)


def compare(layer, session, x, masked, *rest):
    names = ["x", *["mask"] * masked, *[f"state_{i}" for i in range(len(rest) - masked)]]
    given = {n: np.asarray(v) for n, v in zip(names, (x, *rest), strict=True)}
    wanted = tf.nest.flatten(called(layer, x, masked, *rest))
    for found, right in zip(session.run(None, given), wanted, strict=True):
        np.testing.assert_allclose(found, right, atol=3e-6)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("begun", [False, True])
def test_an_operator_is_the_cell(name, begun):
    cell, options = NATIVE[name]
    layer = Recurrent(cell(H, **options), return_sequences=True, return_state=True, runner="loop")
    count = len(tf.nest.flatten(layer.cell.state_size))
    states = [values(B, H, seed=3 + i) for i in range(count * begun)]
    for masked in (False, True):
        found, session = converted(layer, masked, states)
        assert "Loop" not in found and len({"Scan", "GRU", "LSTM"} & set(found)) == 1
        x = values(B, T, D)
        for kind in [kind for kind in MASKS if (kind == "none") != masked]:
            compare(layer, session, x, masked, *[mask_of(kind)] * masked, *states)
        compare(layer, session, x[:, :1], masked, *[mask_of("right")[:, :1]] * masked, *states)


@pytest.mark.parametrize("name", LOOPS)
def test_what_no_operator_can_is_a_loop(name):
    layer = Recurrent(LOOPS[name](), return_sequences=True, return_state=True, runner="loop")
    found, session = converted(layer, True, [])
    assert "Loop" in found and not {"Scan", "GRU", "LSTM"} & set(found)
    compare(layer, session, values(B, T, D), True, mask_of("holes"))


def operators(found: list[str]) -> int:
    assert "Loop" not in found
    return sum(found.count(kind) for kind in ("Scan", "GRU", "LSTM"))


def recurrent(cell, **options) -> Recurrent:
    return Recurrent(cell, return_state=True, runner="loop", **options)


@pytest.mark.parametrize("name", ["SimpleRNN", "GRU hard", "LSTM", "coupled peephole"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_both_directions_are_one_operator(name, sequences, begun):
    cell, options = NATIVE[name]
    layer = Bidirectional(recurrent(cell(H, **options), return_sequences=sequences))
    count = 2 * len(tf.nest.flatten(layer.forward_layer.cell.state_size))
    states = [values(B, H, seed=3 + i) for i in range(count * begun)]
    for masked in (False, True):
        found, session = converted(layer, masked, states)
        assert operators(found) == 1 and "Split" not in found and "ReverseSequence" not in found
        same_under_every_mask(layer, session, masked, states)


def same_under_every_mask(layer, session, masked, states=()):
    """Every kind of mask, one step, no steps."""
    x = values(B, T, D)
    for kind in [kind for kind in MASKS if (kind == "none") != masked]:
        compare(layer, session, x, masked, *[mask_of(kind)] * masked, *states)
    for length in (1, 0):
        mask = [mask_of("all padding")[:, :length]] * masked
        compare(layer, session, x[:, :length], masked, *mask, *states)
    compare(layer, session, x, masked, *[tf.zeros([B, T], bool)] * masked, *states)


@pytest.mark.parametrize("mode", ["sum", "mul", "ave", None])
def test_both_directions_merged(mode):
    layer = Bidirectional(recurrent(cells.GRU(H), return_sequences=True), merge_mode=mode)
    found, session = converted(layer, True, [])
    assert operators(found) == 1
    same_under_every_mask(layer, session, True)


def test_directions_that_differ():
    """Other functions are one operator's, another size or kind is not."""
    one = recurrent(cells.LSTM(H), return_sequences=True)
    other = {"return_sequences": True, "go_backwards": True}
    for cell, count in (
        (cells.LSTM(H, activation="elu", recurrent_activation="hard_sigmoid"), 1),
        (cells.PeepholeLSTM(H), 2),
        (cells.GRU(H), 2),
        (cells.LSTM(H - 1), 2),
    ):
        layer = Bidirectional(one, recurrent(cell, **other))
        found, session = converted(layer, True, [])
        assert operators(found) == count
        same_under_every_mask(layer, session, True)
    layer = Bidirectional(recurrent(cells.GRU(H), **other))
    found, session = converted(layer, True, [])
    assert operators(found) == 2
    same_under_every_mask(layer, session, True)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_backwards_is_one_operator(sequences, begun):
    layer = recurrent(cells.GRU(H), return_sequences=sequences, go_backwards=True)
    states = [values(B, H, seed=3)] * begun
    for masked in (False, True):
        found, session = converted(layer, masked, states)
        # The outputs come in the order in which they are read.
        assert operators(found) == 1 and found.count("ReverseSequence") <= sequences
        same_under_every_mask(layer, session, masked, states)


def test_an_empty_sequence():
    layer = Recurrent(cells.GRU(H), return_sequences=True, return_state=True, runner="loop")
    states = [values(B, H, seed=3)]
    for masked in (False, True):
        _, session = converted(layer, masked, states)
        compare(
            layer, session, tf.zeros([B, 0, D]), masked, *[tf.zeros([B, 0], bool)] * masked, *states
        )
