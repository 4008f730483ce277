"""Scores and the masked softmax against NumPy; what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasrnn.attention.cells import BahdanauCell, LuongCell
from kerasrnn.attention.scores import (
    ATTENTIONS,
    Additive,
    Bilinear,
    Dot,
    ScaledDot,
    masked_softmax,
)
from kerasrnn.cells import GRU, Cell
from kerasrnn.layers import Recurrent
from tests import attention_reference as reference
from tests.recurrent_cases import float64, relative, scatter, values

B, S, Q, D = 3, 5, 4, 6
MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]], bool)
SCORES = {
    "additive": reference.additive,
    "dot": reference.dot,
    "scaled_dot": reference.scaled_dot,
    "bilinear": reference.bilinear,
}


def built(name, width):
    """An attention of queries [B, Q] with values [B, S, width], and its weights by name."""
    attention = ATTENTIONS[name](7)
    attention.build((None, Q), (None, None, width))
    scatter(attention, scale=1.0)
    return attention, {w.name: w.numpy() for w in attention.weights}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_scores_are_those_of_the_papers(name):
    with float64():
        width = Q if "dot" in name else D
        attention, w = built(name, width)
        q, m = values(B, Q, seed=1) * 3, values(B, S, width, seed=2)
        memory = attention.memory(m, tf.constant(MASK))
        scores = attention.score(q, memory.keys, ops.matmul)
        found = attention.read(q, memory)
        wanted = reference.read(SCORES[name], q.numpy(), m.numpy(), MASK, w)
        assert relative(scores, SCORES[name](q.numpy(), m.numpy(), w)) < 1e-14
        for f, expected in zip(found, wanted, strict=True):
            assert relative(f, expected) < 1e-14
        assert np.ptp(wanted[1][0, :3]) > 0.1, "the weights must differ to show anything"


def test_the_table_names_every_attention():
    kinds = {name: type(make(3)) for name, make in ATTENTIONS.items()}
    assert kinds == {
        "additive": Additive,
        "dot": Dot,
        "scaled_dot": ScaledDot,
        "bilinear": Bilinear,
    }


@pytest.mark.parametrize(
    ("dtype", "largest", "unit"),
    [
        ("float16", 6e4, 2**-10),
        ("bfloat16", 1e8, 2**-7),
        ("float32", 1e8, 2**-23),
        ("float64", 1e8, 2**-52),
    ],
)
@pytest.mark.parametrize("size", ["small", "large", "all low"])
def test_weights_sum_to_one_and_vanish_on_padding(dtype, largest, unit, size):
    scores = np.random.default_rng(3).uniform(-1, 1, MASK.shape)
    scores = {"small": 2 * scores, "large": largest * scores, "all low": scores - largest}[size]
    scores[~MASK] = largest  # what stands where there is nothing must not matter
    weights = masked_softmax(tf.cast(scores, dtype), tf.constant(MASK))
    assert weights.dtype == dtype
    weights = tf.cast(weights, tf.float64).numpy()
    assert (weights[~MASK] == 0).all() and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 0], atol=4 * unit)
    rounded = tf.cast(tf.cast(scores, dtype), tf.float64).numpy()
    np.testing.assert_allclose(weights, reference.weights_of(rounded, MASK), atol=4 * unit)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_gradients_stay_finite_where_there_is_nothing(dtype):
    scores = tf.cast(tf.constant([[3.0, -2.0, 5e4], [6e4, -6e4, 1.0]]), dtype)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = masked_softmax(scores, tf.constant([[True, True, False], [False] * 3]))
        loss = tf.reduce_sum(weights * tf.cast([[1.0, -2.0, 3.0]], dtype))
    slope = tf.cast(tape.gradient(loss, scores), tf.float32).numpy()
    p = 1 / (1 + np.exp(-5.0))
    np.testing.assert_allclose(slope[0], [3 * p * (1 - p), -3 * p * (1 - p), 0], atol=2e-3)
    assert (slope[1] == 0).all()


def test_the_energy_begins_as_a_column_of_glorot():
    attention = Additive(600)
    attention.build((None, 3), (None, None, 3))
    energy = attention.energy.numpy()
    bound = np.sqrt(6 / 601)
    assert energy.shape == (600,) and 0.95 * bound < np.abs(energy).max() <= bound


def test_memory_is_projected_once():
    calls = []

    class Watched(Additive):
        def project(self, values):
            calls.append(values.shape)
            return super().project(values)

    cell = BahdanauCell(GRU(Q), Watched(3), D)
    layer = Recurrent(cell, return_sequences=True, runner="loop")
    layer.build((None, None, 2))
    memory = cell.attention.memory(values(B, S, D), tf.constant(MASK))
    layer(values(B, 7, 2), constants=memory)
    assert calls == [(B, S, D)]


class Uneven(Cell):
    """Sums of two widths."""

    state_size = output_size = 3

    def project(self, x, training=None):
        return ops.concatenate([x, x], -1), x


MISUSES = {
    "no attention": (
        lambda: BahdanauCell(GRU(3), keras.layers.Attention(name="theirs"), 4),
        r"^attention: expected a kerasrnn\.attention\.Attention, received <Attention name=theirs.*"
        r"give Additive\(units\), Dot\(\), ScaledDot\(\) or Bilinear\(\)\.$",
    ),
    "no cell": (
        lambda: LuongCell(keras.layers.GRUCell(3), Dot(), 4),
        r"^LuongCell\(cell\): expected a kerasrnn\.cells\.Cell, received <GRUCell.*",
    ),
    "unequal sizes": (
        lambda: BahdanauCell(GRU(3), ScaledDot(), 4).build((None, 2)),
        r"^ScaledDot: expected queries as wide as the memory's values, received 3 and 4; "
        r"use Bilinear, or make the sizes equal\.$",
    ),
    "uneven sums": (
        lambda: BahdanauCell(Uneven(), Additive(3), 4).build((None, 2)),
        r"^Uneven\.project: expected sums of one width for the context to enter, received "
        r"widths \[4, 2\]; give them as leaves of equal size\.$",
    ),
    "no memory": (
        lambda: Recurrent(BahdanauCell(GRU(3), Additive(2), 4))(values(2, 5, 3)),
        r"constants: expected 1 for the cell's \['memory'\], received 0; "
        r"call layer\(x, constants=\(memory,\)\)\.",
    ),
    "in Keras's layer": (
        lambda: keras.layers.RNN(BahdanauCell(GRU(3), Additive(2), 4))(values(2, 5, 3)),
        r"BahdanauCell needs constants \['memory'\], which keras\.layers\.RNN does not hand over",
    ),
}


@pytest.mark.parametrize("name", MISUSES)
def test_what_is_refused(name):
    misuse, text = MISUSES[name]
    with pytest.raises(ValueError, match=text):
        misuse()
