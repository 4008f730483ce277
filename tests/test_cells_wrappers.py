"""Dropout, zoneout and residual connections around a cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import (
    GRU,
    LSTM,
    Cell,
    Dropout,
    LayerNorm,
    Residual,
    RunningSum,
    SimpleRNN,
    Zoneout,
)
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import everything, float64, mask_of, scatter, values, worst

H = D = 4


def running(cell, **options):
    layer = Recurrent(cell, return_sequences=True, **options)
    layer.build((None, None, D))
    scatter(layer)
    return layer


def reseeded(layer, value):
    layer.cell.seed_generator.state.assign([value, 3])
    return layer


@pytest.mark.parametrize("kind", ["none", "right"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Dropout(LSTM(H), rate=0.3, recurrent_rate=0.4),
        lambda: Zoneout(LSTM(H), rate=(0.3, 0.6)),
        lambda: Residual(GRU(H)),
        lambda: LayerNorm(Dropout(GRU(H, reset_after=False), 0.2, 0.3)),
        lambda: Residual(Zoneout(Dropout(GRU(H, reset_after=False), 0.2, 0.3), 0.4)),
    ],
)
def test_replay_equals_the_loop(make, kind):
    with float64():
        layer, x = running(make(), return_state=True), values(3, 5, D)
        generators = [c.seed_generator for c in layer.cell._flatten_layers() if hasattr(c, "seed")]
        start = [g.state.numpy() for g in generators]
        found = []
        for runner in ("loop", "replay"):
            layer.runner = runner
            for g, state in zip(generators, start, strict=True):
                g.state.assign(state)
            found.append(everything(layer, x, mask=mask_of(kind), training=True))
        assert worst(found[1], found[0]) < 1e-9


def test_one_step_of_one_row():
    with float64():
        layer = running(Dropout(GRU(H), rate=0.3, recurrent_rate=0.4), return_state=True)
        found, state = [], values(1, H, seed=2)
        for runner in ("loop", "replay"):
            reseeded(layer, 7).runner = runner
            found.append(everything(layer, values(1, 1, D), initial_state=state, training=True))
        assert worst(found[1], found[0]) < 1e-9


def test_dropout_drops_the_same_at_every_step_and_nothing_at_inference():
    layer = reseeded(running(Dropout(SimpleRNN(H, activation=None), rate=0.5, seed=1)), 5)
    layer.cell.cell.set_weights([np.eye(D), np.zeros((H, H)), np.zeros(H)])
    x = tf.fill((8, 6, D), 3.0)
    dropped = layer(x, training=True).numpy()
    assert set(np.unique(dropped)) == {0.0, 6.0}
    np.testing.assert_array_equal(dropped, dropped[:, :1].repeat(6, axis=1))
    assert not np.array_equal(layer(x, training=True), dropped)
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_recurrent_dropout_drops_the_state_in_every_product():
    layer = running(Dropout(SimpleRNN(H, activation=None), recurrent_rate=0.5, seed=1))
    layer.cell.cell.set_weights([np.eye(D), np.eye(H), np.zeros(H)])
    found = layer(tf.ones((8, 4, D)), training=True).numpy()
    kept = np.isclose(found[:, 1], 3.0)  # 1 + 1 / 0.5
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(found[kept.nonzero()[0], :, kept.nonzero()[1]][:, 3], 15.0)
    np.testing.assert_allclose(found.transpose(0, 2, 1)[~kept], 1.0)


def test_zoneout_keeps_units_and_mixes_them_at_inference():
    layer = running(Zoneout(SimpleRNN(H, activation=None), rate=0.25, seed=1))
    layer.cell.cell.set_weights([np.eye(D), np.zeros((H, H)), np.zeros(H)])
    x = tf.reshape(tf.range(1.0, 201.0), (1, 200, 1)) * tf.ones((16, 1, D))
    found = layer(x, training=True).numpy()
    before = np.concatenate([np.zeros((16, 1, D)), found[:, :-1]], axis=1)
    kept = found == before
    assert abs(kept.mean() - 0.25) < 0.02
    np.testing.assert_array_equal(found[~kept], x.numpy()[~kept])
    np.testing.assert_allclose(layer(x)[0, :2, 0], [0.75, 0.25 * 0.75 + 0.75 * 2])


def test_residual_adds_the_input():
    layer = running(Residual(GRU(H)))
    plain = Recurrent(layer.cell.cell, return_sequences=True)
    x = values(2, 5, D)
    np.testing.assert_allclose(layer(x), plain(x) + x, atol=1e-6)


@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_layer_norm_is_what_the_paper_says(runner):
    with float64():
        layer = running(LayerNorm(LSTM(H), epsilon=1e-3), runner=runner)
        gain, shift, kernel, U, b = (w.numpy() for w in layer.weights)
        x, h, c = values(3, 5, D).numpy(), np.zeros((3, H)), np.zeros((3, H))
        found = layer(x, training=True).numpy()
        for t in range(5):
            a = h @ U
            scale = np.sqrt(a.var(-1, keepdims=True) + 1e-3)
            a = gain * (a - a.mean(-1, keepdims=True)) / scale + shift
            i, f, g, o = np.split(x[:, t] @ kernel + a + b, 4, axis=-1)
            i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
            c = f * c + i * np.tanh(g)
            h = o * np.tanh(c)
            np.testing.assert_allclose(found[:, t], h, atol=1e-12)


def test_layer_norm_forgets_the_scale_of_a_weight():
    layer, x = running(LayerNorm(SimpleRNN(H), epsilon=0)), values(3, 5, D)
    layer.cell.shifts[0].assign(np.ones(H))
    before, U = layer(x), layer.cell.cell.recurrent_kernel
    U.assign(100 * U.numpy())
    np.testing.assert_allclose(layer(x)[:, 1:], before[:, 1:], atol=1e-5)


def test_layer_norm_is_in_other_wrappers_and_outside_them():
    for cell in (Residual(LayerNorm(GRU(H))), LayerNorm(Residual(GRU(H)))):
        assert [w.name for w in cell.weights] == []
        cell.build((None, D))
        assert sorted(w.shape[0] for w in cell.weights if "_0" in w.name) == [3 * H] * 2


class Reading(Cell):
    """Needs a memory."""

    state_size = output_size = H

    def step(self, z, h, linear, memory):
        return h, h


def test_wrapped_cells_save_and_load(tmp_path):
    inside = Dropout(LayerNorm(LSTM(H), epsilon=1e-2), 0.1, 0.2, seed=3)
    cell = Residual(Zoneout(inside, (0.1, 0.3), seed=4))
    model = keras.Sequential([keras.Input((None, D)), Recurrent(cell)])
    scatter(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    zoneout = again.layers[0].cell.cell
    assert (zoneout.rate, zoneout.seed) == ((0.1, 0.3), 4)
    assert (zoneout.cell.rate, zoneout.cell.recurrent_rate, zoneout.cell.seed) == (0.1, 0.2, 3)
    assert zoneout.cell.cell.epsilon == 1e-2
    np.testing.assert_array_equal(again(values(2, 5, D)), model(values(2, 5, D)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dropout(GRU(H), rate=1.0), r"rate: expected a probability in \[0, 1\)"),
        (lambda: Dropout(GRU(H), recurrent_rate=-1), "recurrent_rate: expected a probability"),
        (lambda: Zoneout(LSTM(H), rate=(0.1,)), "rate: expected one probability or 2, one for"),
        (lambda: Residual(GRU(H)).build((None, 7)), "expected inputs with 4 features"),
        (lambda: LayerNorm(RunningSum(H)).build((None, H)), "received RunningSum, which has none"),
        (
            lambda: LayerNorm(Reading()).build((None, H)),
            r"needs \['memory'\]; wrap the cell inside",
        ),
        (lambda: Dropout(keras.layers.GRUCell(H)), r"Dropout\(cell\): expected a kerasrnn"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
