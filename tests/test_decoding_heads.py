"""Heads: costs against SciPy's or by hand, draws by their distribution, the same in ONNX."""

import numpy as np
import onnxruntime
import tensorflow as tf

from kerasrnn.decoding.heads import Normal, Tokens, draw_values
from kerasrnn.decoding.sampling import uniform
from kerasrnn.export.graphs import onnx_file


def noise_of(seed: int, rows: int):
    return lambda number: uniform(
        tf.constant(seed, tf.int64), tf.range(rows, dtype=tf.int64), tf.constant(number, tf.int64)
    )


def test_a_normal_costs_what_its_density_says():
    x, mean, scale = np.array([[0.5, -2.0]], np.float32), np.array([[0.0, 1.0]], np.float32), 0.7
    density = np.exp(-0.5 * ((x - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(Normal(scale).nats(mean, x), -np.log(density).sum(-1), rtol=1e-5)


def test_tokens_cost_what_softmax_says_and_banned_ones_are_never_drawn():
    logits = tf.constant(np.tile([0.0, 3.0, 1.0, 2.0], (4000, 1)), tf.float32)
    p = tf.nn.softmax(logits)[0].numpy()
    np.testing.assert_allclose(Tokens().nats(logits, tf.fill([4000], 2))[0], -np.log(p[2]), 1e-5)
    drawn = Tokens(banned=(1,)).draw(logits, noise_of(5, 4000)).numpy()
    shares = np.bincount(drawn, minlength=4) / 4000
    wanted = np.where([True, False, True, True], p, 0.0) / (1 - p[1])
    np.testing.assert_allclose(shares, wanted, atol=0.03)
    assert Tokens(banned=(1,)).best(logits)[0] == 3


def test_normal_draws_have_the_mean_and_the_spread_and_lie_on_the_grid():
    means = tf.constant(np.tile([1.0, -3.0], (5000, 1)), tf.float32)
    head = Normal(scale=0.5, grid=1 / 64)
    drawn = head.draw(means, noise_of(3, 5000)).numpy()
    np.testing.assert_allclose(drawn.mean(0), [1.0, -3.0], atol=0.03)
    np.testing.assert_allclose(drawn.std(0), 0.5, atol=0.02)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.05
    np.testing.assert_array_equal(drawn * 64, np.round(drawn * 64))
    np.testing.assert_allclose(head.best(tf.constant([[0.11]])), [[7 / 64]])


def test_onnx_draws_the_same_values():
    weights = np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32)

    def wave(length, seed):
        def step(value, state):
            state = tf.tanh(value @ tf.constant(weights) + state)
            return state, state

        return draw_values(step, Normal(0.3), tf.zeros([3, 2]), tf.zeros([3, 2]), length, seed)

    specs = [tf.TensorSpec([], tf.int32, name) for name in ("length", "seed")]
    model = onnx_file.convert(wave, specs, ["values"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for length in (0, 1, 30):
        given = {"length": np.array(length, np.int32), "seed": np.array(8, np.int32)}
        found, right = session.run(None, given)[0], wave(**given).numpy()
        assert right.shape == (3, length, 2) and len(np.unique(right)) >= 3 * length
        np.testing.assert_array_equal(found, right)
