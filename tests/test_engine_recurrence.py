"""Which runner does the work, and what a layer says to bad input."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU, LSTM, Cell, SimpleRNN
from kerasrnn.compat.rnn import KERNELS
from kerasrnn.engine import recurrence
from kerasrnn.engine.recurrence import Plan, Problem, exporting, plan, run
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import mask_of, scatter, values

H, D = 4, 3


@pytest.mark.parametrize(
    ("cell", "options", "runner", "reason"),
    [
        (LSTM(H), {"training": True}, "replay", "recorded under XLA; not cudnn: no GPU"),
        (LSTM(H), {}, "replay", "forward only, no gradient expected; not cudnn: no GPU"),
        (LSTM(H), {"device": "GPU"}, "cudnn", "exactly cuDNN's"),
        (GRU(H), {"device": "GPU"}, "cudnn", "exactly cuDNN's"),
        (GRU(H, reset_after=False), {"device": "GPU"}, "replay", "not exactly cuDNN's"),
        (LSTM(H, activation="relu"), {"device": "GPU"}, "replay", "not exactly cuDNN's"),
        (SimpleRNN(H), {"device": "GPU"}, "replay", "not exactly cuDNN's"),
        (LSTM(H), {"device": "GPU", "masked": True}, "replay", "right padding only"),
        (LSTM(H), {"runner": "loop"}, "loop", "asked for"),
    ],
)
def test_plan(cell, options, runner, reason):
    found = plan(cell, **options)
    assert found.runner == runner
    assert reason in str(found)


@pytest.mark.parametrize("cell", [LSTM, GRU])
@pytest.mark.parametrize("sequences", [True, False])
def test_the_cudnn_runner_hands_over_what_keras_asks_for(cell, sequences, monkeypatch):
    """There is no GPU here: the kernels are stood in for by the layers that call them."""
    stock = {LSTM: keras.layers.LSTM, GRU: keras.layers.GRU}[cell]
    x, states = values(2, 3, D), [values(2, H, seed=i) for i in range(2 if cell is LSTM else 1)]

    def kernel(x, *arguments, return_sequences):
        *states, mask, kernel, recurrent, bias, tanh, sigmoid = arguments
        assert (mask, tanh, sigmoid) == (None, keras.activations.tanh, keras.activations.sigmoid)
        layer = stock(H, return_sequences=True, return_state=True, use_cudnn=False)
        layer.build(x.shape)
        layer.set_weights([kernel, recurrent, bias])
        outputs, *finals = layer(x, initial_state=states)
        return outputs[:, -1], outputs, finals

    layer = Recurrent(cell(H), return_sequences=sequences, return_state=True)
    layer(x)
    scatter(layer)
    wanted = layer(x, initial_state=states)
    monkeypatch.setitem(KERNELS, cell.__name__.lower(), kernel)
    monkeypatch.setattr(recurrence, "_device", lambda: "GPU")
    assert layer.plan().runner == "cudnn"
    for found, want in zip(layer(x, initial_state=states), wanted, strict=True):
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_plan_refuses_what_cannot_be():
    with pytest.raises(ValueError, match=r"runner: expected 'auto' or one of .* received 'fast'"):
        plan(LSTM(H), runner="fast")
    with pytest.raises(ValueError, match="runner='cudnn': no GPU; use runner='auto'"):
        Recurrent(LSTM(H), runner="cudnn").plan(device="CPU")


def test_exporting_lowers_what_it_can():
    layer, seen = Recurrent(LSTM(H), return_state=True), []
    layer(values(2, 3, D))
    scatter(layer)

    def lower(problem):
        seen.append(problem)
        return None if problem.mask is not None else [(problem.x[:, 0], problem.states)]

    x, mask = values(2, 3, D), tf.constant([[True, True, False], [True, False, False]])
    with exporting(lower):
        assert layer.plan() == Plan("symbolic", "an export is being traced")
        np.testing.assert_array_equal(layer(x)[0], x[:, 0])
        lowered = layer(x, mask=mask)
    assert [p.mask is None for p in seen] == [True, False]
    assert layer.plan().runner == "replay"
    np.testing.assert_allclose(lowered[0], layer(x, mask=mask)[0], atol=1e-6)


@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_nothing_to_read_gives_the_initial_state(runner):
    state = [values(2, H, seed=1), values(2, H, seed=2)]
    for sequences, shape in ((True, (2, 0, H)), (False, (2, H))):
        layer = Recurrent(LSTM(H), sequences, return_state=True, runner=runner)
        output, h, c = layer(tf.zeros((2, 0, D)), initial_state=state, training=True)
        assert output.shape == shape
        np.testing.assert_array_equal(output, np.zeros(shape))
        np.testing.assert_array_equal(h, state[0])
        np.testing.assert_array_equal(c, state[1])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_nothing_to_read_that_nobody_foresaw(runner, jit):
    layer = Recurrent(LSTM(H), True, return_state=True, runner=runner)
    layer.build((None, None, D))
    scatter(layer)

    @tf.function(input_signature=[tf.TensorSpec([None, None, n]) for n in (D, H)], jit_compile=jit)
    def traced(x, state):
        h, c = state[:, 0], state[:, 1]
        with tf.GradientTape() as tape:
            tape.watch([x, h, c])
            outputs = layer(x, initial_state=[h, c], training=True)
            loss = tf.add_n([(i + 2) * tf.reduce_sum(o) for i, o in enumerate(outputs)])
        return outputs, tape.gradient(loss, [x, h, c, *layer.trainable_weights])

    (output, *last), (dx, dh, dc, *weights) = traced(tf.zeros((2, 0, D)), values(2, 2, H))
    assert (output.shape, dx.shape) == ((2, 0, H), (2, 0, D))
    np.testing.assert_array_equal(tf.stack(last, 1), values(2, 2, H))
    np.testing.assert_array_equal(dh, np.full((2, H), 3.0))
    np.testing.assert_array_equal(dc, np.full((2, H), 4.0))
    assert all(not np.any(d) for d in weights)
    if not jit:
        x, (h, c) = values(2, 3, D), tf.unstack(values(2, 2, H), axis=1)
        wanted = layer(x, initial_state=[h, c])
        for found, want in zip(traced(x, values(2, 2, H))[0], wanted, strict=True):
            np.testing.assert_allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_before_the_first_real_step_the_output_is_zero_and_the_state_is_kept(runner):
    layer = Recurrent(LSTM(H), True, return_state=True, runner=runner)
    mask = tf.constant([[False, False, True], [False, False, False]])
    state = [values(2, H, seed=1), values(2, H, seed=2)]
    for training in (True, False):
        output, h, _ = layer(values(2, 3, D), mask=mask, initial_state=state, training=training)
        np.testing.assert_array_equal(output[:, :2], np.zeros((2, 2, H)))
        assert np.abs(output[0, 2]).min() > 0
        np.testing.assert_array_equal(h[1], state[0][1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: Recurrent(keras.layers.LSTMCell(H)), "cell: expected a kerasrnn.cells.Cell"),
        (lambda x: Recurrent(LSTM(H))(x[0]), r"sequences: expected \[batch, time, features\]"),
        (
            lambda x: Recurrent(LSTM(H))(x, mask=tf.ones((2, 4), "bool")),
            r"mask: expected bool \(2, 3\) \(batch, time\), received bool \(2, 4\)",
        ),
        (
            lambda x: Recurrent(LSTM(H))(x, mask=tf.ones((2, 3))),
            r"mask: expected bool .* received float32 \(2, 3\)",
        ),
        (
            lambda x: Recurrent(LSTM(H))(x, initial_state=[tf.ones((2, H)), tf.ones((2, 7))]),
            r"initial_state: expected 2 tensors .* sizes \[4, 4\], received shapes .*\(2, 7\)",
        ),
        (
            lambda x: Recurrent(LSTM(H))(x, initial_state=tf.ones((2, H))),
            r"initial_state: expected 2 tensors",
        ),
        (lambda x: Recurrent(Wrong(), runner="loop")(x), r"Wrong\.step: expected a new state of"),
        (
            lambda x: Recurrent(LSTM(H), stateful=True).build((None, 3, D)),
            "stateful=True: expected",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(values(2, 3, D))


class Needy(Cell):
    """Cannot do without a memory."""

    state_size = output_size = D

    def project(self, x, training=None):
        return x

    def step(self, z, h, linear, memory):
        return h + memory, h + memory


class Timeless(Needy):
    """Forgets time before the loop begins."""

    def project(self, x, training=None):
        return keras.ops.mean(x, axis=0, keepdims=True)

    def step(self, z, h, linear):
        return h + z, h + z


class Wrong(Cell):
    """Gives back a state of another size."""

    state_size = output_size = D

    def project(self, x, training=None):
        return x

    def step(self, z, h, linear):
        return z, z[:, :1]


def test_backwards_is_the_reversed_sequence_and_padding_may_be_zeros():
    cell, x, mask = LSTM(H), values(3, 5, D), mask_of("holes")
    cell.build((None, D))
    problem = Problem(cell, x, cell.initial_state(3), mask)
    turned = replace(problem, x=x[:, ::-1], mask=mask[:, ::-1])
    output, states = run(replace(problem, backwards=True, zero_padding=True))
    wanted, last = run(turned)
    np.testing.assert_array_equal(output, np.where(turned.mask[..., None], wanted, 0))
    for found, right in zip(states, last, strict=True):
        np.testing.assert_array_equal(found, right)
