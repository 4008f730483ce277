"""Recurrences in ONNX: the operators where there are some, and what they give."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn import cells
from kerasrnn.export.onnx_file import convert
from kerasrnn.export.onnx_loops import nodes
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
        assert "Loop" not in found and "Scan" not in found
        assert {"RNN", "GRU", "LSTM"} & set(found)
        x = values(B, T, D)
        for kind in [kind for kind in MASKS if (kind == "none") != masked]:
            compare(layer, session, x, masked, *[mask_of(kind)] * masked, *states)
        compare(layer, session, x[:, :1], masked, *[mask_of("right")[:, :1]] * masked, *states)


@pytest.mark.parametrize("name", LOOPS)
def test_what_no_operator_can_is_a_loop(name):
    layer = Recurrent(LOOPS[name](), return_sequences=True, return_state=True, runner="loop")
    found, session = converted(layer, True, [])
    assert "Loop" in found and not {"RNN", "GRU", "LSTM"} & set(found)
    compare(layer, session, values(B, T, D), True, mask_of("holes"))


@pytest.mark.parametrize("sequences", [False, True])
def test_both_directions(sequences):
    forward = Recurrent(cells.LSTM(H), return_sequences=sequences, return_state=True, runner="loop")
    layer = looped_both(Bidirectional(forward))
    for masked in (False, True):
        found, session = converted(layer, masked, [])
        assert found.count("LSTM") == 2 and "Loop" not in found
        for kind in [kind for kind in MASKS if (kind == "none") != masked]:
            compare(layer, session, values(B, T, D), masked, *[mask_of(kind)] * masked)


def looped_both(layer: Bidirectional) -> Bidirectional:
    for one in (layer.forward_layer, layer.backward_layer):
        one.runner = "loop"
    return layer


def test_an_empty_sequence():
    layer = Recurrent(cells.GRU(H), return_sequences=True, return_state=True, runner="loop")
    states = [values(B, H, seed=3)]
    for masked in (False, True):
        _, session = converted(layer, masked, states)
        compare(
            layer, session, tf.zeros([B, 0, D]), masked, *[tf.zeros([B, 0], bool)] * masked, *states
        )
