"""Vanishing and exploding gradients, seen where the answer is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.analysis.gradient_flow import eigenvalues, gradient_flow, pascanu_regularizer
from kerasrnn.cells import GRU, LSTM, SimpleRNN
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import scatter

T, D = 6, 3


def linear_network(u):
    """h(t) = W x(t) + diag(u) h(t-1), the loss its last value's sum."""
    layer = Recurrent(SimpleRNN(2, activation=None, use_bias=False))
    model = keras.Sequential([keras.Input((T, D)), layer])
    model.compile(loss=lambda y, h: tf.reduce_sum(h, -1), optimizer="sgd")
    layer.cell.recurrent_kernel.assign(np.diag(u))
    return model


def batch(rows=5):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, T, D)).astype("float32"), np.zeros((rows, 2), "float32")


@pytest.mark.parametrize("u", [(0.5, 0.25), (2.0, 1.5)])
def test_a_linear_network_vanishes_or_explodes_by_powers(u):
    flow = gradient_flow(linear_network(u), batch(rows=1))
    back = np.arange(T)[::-1, None]
    np.testing.assert_allclose(
        flow.gradient_norm, np.linalg.norm(np.array(u) ** back, axis=1), rtol=1e-5
    )
    np.testing.assert_allclose(flow.jacobian_norm, np.full(T, max(u)), rtol=1e-5)
    np.testing.assert_allclose(flow.reach, max(u) ** np.arange(1, T + 1), rtol=1e-5)
    assert flow.nonfinite == ()


@pytest.mark.parametrize("cell", [GRU, LSTM])
def test_gradients_are_those_of_a_perturbed_state(cell):
    first = Recurrent(cell(4), return_sequences=True)
    model = keras.Sequential(
        [keras.Input((T, D)), keras.layers.Masking(), first, Recurrent(GRU(3))]
    )
    model.compile(loss="mse", optimizer="sgd")
    scatter(model)
    x = batch(rows=2)[0]
    x[1, 4:] = 0
    y = np.ones((2, 3), "float32")
    flow, t, eps = gradient_flow(model, (x, y), layer=first), 3, 1e-2
    states = first.cell.initial_state(2)
    tail = keras.Sequential([model.layers[-1]])
    mask = tf.constant([[True] * T, [True] * 4 + [False] * 2])
    head = Recurrent(first.cell, return_sequences=True, return_state=True)
    start, *state = head(x[:, : t + 1], mask=mask[:, : t + 1], initial_state=states)

    def loss(state):
        """The loss from the states after step t on."""
        rest, *_ = head(x[:, t + 1 :], mask=mask[:, t + 1 :], initial_state=list(state))
        whole = tf.concat([start[:, :t], state[0][:, None], rest], axis=1)
        return np.mean((tail.layers[0](whole, mask=mask) - y) ** 2)

    slopes = []
    for i, s in enumerate(state):
        for place in np.ndindex(*s.shape):
            moved = np.zeros(s.shape, "float32")
            moved[place] = eps
            pair = [[v + sign * moved * (i == j) for j, v in enumerate(state)] for sign in (1, -1)]
            slopes.append((loss(pair[0]) - loss(pair[1])) / (2 * eps))
    np.testing.assert_allclose(flow.gradient_norm[t], np.linalg.norm(slopes), rtol=0.02)


@pytest.mark.slow
def test_it_says_where_nonfinite_values_began(tmp_path):
    x, y = batch()
    x[2, 3, 1] = np.nan
    flow = gradient_flow(linear_network((0.5, 0.5)), (x, y), examples=1)
    assert flow.nonfinite[:2] == ("inputs at step 3", "states at step 3")
    flow.plot(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").stat().st_size > 5000


def test_omega_is_what_the_paper_says():
    u = np.array([0.5, 2.0])
    x, y = batch()
    model = linear_network(u)
    d = u ** np.arange(T)[::-1, None]  # ∂L/∂h(t)
    ratio = np.linalg.norm(d[1:] * u, axis=1) / np.linalg.norm(d[1:], axis=1)
    np.testing.assert_allclose(
        pascanu_regularizer(model, x, y), np.sum((ratio - 1) ** 2), rtol=1e-4
    )


def test_omega_teaches_gradients_to_stay_level():
    model = linear_network((0.4, 0.3))
    x, y = batch()
    optimizer = keras.optimizers.SGD(0.02)
    kernel = model.layers[0].cell.recurrent_kernel

    @tf.function
    def learn():
        with tf.GradientTape() as tape:
            omega = pascanu_regularizer(model, x, y)
        optimizer.apply_gradients([(tape.gradient(omega, kernel), kernel)])
        return omega

    first = learn()
    for _ in range(60):
        last = learn()
    assert last < 0.01 * first
    flow = gradient_flow(model, (x, y))
    assert flow.gradient_norm[0] > 0.5 * flow.gradient_norm[-1]


def test_eigenvalues():
    layer = Recurrent(LSTM(3))
    layer.build((None, None, D))
    U = layer.cell.recurrent_kernel
    U.assign(np.concatenate([np.diag([1.0, 2.0, 3.0]) * k for k in (1, -1, 0.5, 2)], axis=1))
    np.testing.assert_allclose(np.sort(eigenvalues(layer)[2].real), [0.5, 1.0, 1.5])
    assert eigenvalues(layer).shape == (4, 3)


def test_what_is_missing_is_named():
    model = keras.Sequential([keras.Input((T, D)), Recurrent(GRU(2))])
    with pytest.raises(ValueError, match="expected a compiled model, received 'sequential"):
        gradient_flow(model, batch())
    stock = keras.Sequential([keras.Input((T, D)), keras.layers.GRU(2)])
    stock.compile(loss="mse")
    with pytest.raises(ValueError, match=r"layer: expected one of .* \[\], received None"):
        gradient_flow(stock, batch())
