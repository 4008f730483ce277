"""What recurrent networks are known to do: closed gradients, hand-set weights, learned parity."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU, LSTM, SimpleRNN
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import float64, scatter, values, worst


@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_gradients_are_those_of_backpropagation_through_time(runner):
    """Goodfellow et al. 2016, equations 10.8 to 10.11 forward and 10.18 to 10.28 back."""
    with float64():
        B, T, D, H, V = 1, 7, 3, 4, 5
        layer = Recurrent(SimpleRNN(H), return_sequences=True, runner=runner)
        head = keras.layers.Dense(V)
        x, target = values(B, T, D), np.random.default_rng(1).integers(V, size=(B, T))
        head(layer(x))
        scatter(layer), scatter(head, seed=6)
        variables = [*layer.trainable_weights, *head.trainable_weights]
        with tf.GradientTape() as tape:
            o = head(layer(x, training=True))
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(target, o))
        found = [g.numpy() for g in tape.gradient(loss, variables)]

    x = x.numpy()
    U, W, b, V_, c = (v.numpy() for v in variables)  # x U, h W, h V in the book's letters
    h, o, states = np.zeros((T + 1, H)), [], range(T)
    for t in states:
        h[t] = np.tanh(b + h[t - 1] @ W + x[0, t] @ U)  # h[-1] is the initial state, 0
        o.append(c + h[t] @ V_)
    ŷ = np.exp(o) / np.exp(o).sum(1, keepdims=True)
    do = ŷ - np.eye(V)[target[0]]  # 10.18
    dh = np.zeros((T + 1, H))
    for t in reversed(states):  # 10.19 and 10.21
        dh[t] = (dh[t + 1] * (1 - (h[t + 1] if t + 1 < T else 0) ** 2)) @ W.T + do[t] @ V_.T
    diagonal = 1 - h[:T] ** 2
    before = np.concatenate([np.zeros((1, H)), h[: T - 1]])
    dc, db = do.sum(0), (dh[:T] * diagonal).sum(0)  # 10.22 and 10.23
    dV, dW = h[:T].T @ do, before.T @ (dh[:T] * diagonal)  # 10.24 and 10.26
    dU = x[0].T @ (dh[:T] * diagonal)  # 10.28
    assert worst(found, [dU, dW, db, dV, dc]) < 1e-12


def test_a_hand_set_network_sums_its_inputs():
    layer = Recurrent(SimpleRNN(1, activation=None), return_sequences=True)
    layer.build((None, None, 1))
    layer.set_weights([np.ones((1, 1)), np.ones((1, 1)), np.zeros(1)])
    found = layer(np.array([[2.0, -0.5, 1.0, 1.0]])[..., None])
    np.testing.assert_allclose(found[0, :, 0], [2.0, 1.5, 2.5, 3.5])


def test_a_hand_set_network_says_which_input_is_larger_in_total():
    layer = Recurrent(SimpleRNN(1, activation=None), return_sequences=True)
    layer.build((None, None, 2))
    layer.set_weights([np.array([[1.0], [-1.0]]), np.ones((1, 1)), np.zeros(1)])
    x = np.array([[[2, -2], [0, 3.5], [1, 2.2]]])
    found = keras.ops.sigmoid(5 * layer(x))
    np.testing.assert_allclose(found[0, :, 0], [1.0, 0.92, 0.03], atol=0.005)
    assert (np.cumsum(x[0, :, 0]) > np.cumsum(x[0, :, 1])).tolist() == [True, True, False]
    np.testing.assert_array_equal(found[0, :, 0] > 0.5, [True, True, False])


def parity(rng, rows, T):
    """Bits [rows, T, 1] and the parity of all bits so far at every step."""
    x = rng.integers(2, size=(rows, T, 1)).astype("float32")
    return x, np.cumsum(x, axis=1) % 2


@pytest.mark.slow
def test_parity_is_learned_for_strings_four_times_longer():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((None, 1)),
            Recurrent(LSTM(8), return_sequences=True),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
    x, y = parity(rng, 4096, 12)
    model.fit(x, y, batch_size=64, epochs=12, verbose=0)
    longer, answer = parity(rng, 256, 48)
    assert model.evaluate(longer, answer, verbose=0, return_dict=True)["accuracy"] == 1.0


def adding(rng, rows, T):
    """The adding problem (Hochreiter and Schmidhuber 1997; Bai et al. 2018, section 4.2)."""
    numbers, marks = rng.uniform(size=(rows, T)), np.zeros((rows, T))
    first, second = rng.integers(T // 2, size=rows), rng.integers(T // 2, T, size=rows)
    marks[np.arange(rows), first] = marks[np.arange(rows), second] = 1
    return np.stack([numbers, marks], -1).astype("float32"), (numbers * marks).sum(1)


def adding_error(cell, rounds):
    """The squared error after so many rounds of 100 batches, or as soon as it is below 0.01."""
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((200, 2)), Recurrent(cell(32)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0), "mse")
    held = adding(np.random.default_rng(1), 1000, 200)
    for _ in range(rounds):
        x, y = adding(rng, 3200, 200)
        for i in range(0, 3200, 32):
            model.train_on_batch(x[i : i + 32], y[i : i + 32])
        error = model.evaluate(*held, batch_size=500, verbose=0)
        if error < 0.01:
            break
    return error


@pytest.mark.slow
def test_a_gru_solves_the_adding_problem_at_200_steps_and_a_simple_rnn_does_not():
    """A constant 1 has a squared error of 1/6; Bai et al. 2018 report that the GRU wins."""
    assert adding_error(GRU, rounds=15) < 0.01
    assert adding_error(SimpleRNN, rounds=6) > 0.1


@pytest.mark.slow
def test_an_lstm_solves_the_adding_problem_at_200_steps():
    assert adding_error(LSTM, rounds=40) < 0.01
