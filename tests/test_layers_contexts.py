"""The places where a layer has to work: precisions, strategies, kinds of models, backends."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU, LSTM, Dropout, LayerNormLSTM
from kerasrnn.layers import Bidirectional, Recurrent
from tests.conftest import ROOT
from tests.recurrent_cases import everything, mask_of, relative, scatter, values, worst

H, D = 4, 3


@pytest.mark.parametrize(
    ("cell", "policy"),
    [
        (LSTM, "mixed_bfloat16"),
        (LSTM, "mixed_float16"),
        pytest.param(LayerNormLSTM, "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_mixed_precision(cell, policy):
    plain = Recurrent(cell(H), return_sequences=True)
    x = values(3, 5, D)
    plain(x)
    scatter(plain)
    wanted, slopes = plain(x, mask=mask_of("holes")), gradients_of(plain, x)
    for runner in ("loop", "replay"):
        half = Recurrent(cell(H, dtype=policy), True, runner=runner, dtype=policy)
        half(x)
        half.set_weights(plain.get_weights())
        found = half(x, mask=mask_of("holes"), training=True)
        assert found.dtype == policy.removeprefix("mixed_")
        assert 0 < relative(tf.cast(found, tf.float32), wanted) < 0.05
        for g, w in zip(gradients_of(half, x), slopes, strict=True):
            assert g.dtype == np.float32
            assert relative(g, w) < 0.1


def gradients_of(layer, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(tf.cast(layer(x, training=True), tf.float32)))
    return [g.numpy() for g in tape.gradient(loss, layer.trainable_weights)]


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns(mirrored):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, D)).astype("float32"), rng.normal(size=(8, 1))

    def fitted():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [Bidirectional(Recurrent(LSTM(H), return_sequences=True)), Recurrent(GRU(H))]
        )
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        return model.get_weights()

    alone = fitted()
    with mirrored.scope():
        together = fitted()
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_in_a_subclassed_model():
    class Reader(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = Recurrent(GRU(H), return_sequences=True, return_state=True)
            self.second = Recurrent(LSTM(H))

        def call(self, x, training=None):
            outputs, state = self.first(x, training=training)
            return self.second(outputs, initial_state=[state, state], training=training)

    model = Reader()
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 5, D)), np.ones((8, H)) / 2
    losses = model.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_a_stack_with_initial_state_and_dropout_in_a_functional_model(tmp_path):
    inputs, state = keras.Input((None, D)), keras.Input((H,))
    h = Recurrent(Dropout(GRU(H), 0.2, 0.2), return_sequences=True)(inputs, initial_state=state)
    outputs, last = Recurrent(GRU(H), return_sequences=True, return_state=True)(h)
    model = keras.Model([inputs, state], [outputs, last])
    assert [tuple(o.shape) for o in model.outputs] == [(None, None, H), (None, H)]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    given = [values(2, 5, D), values(2, H, seed=1)]
    for a, b in zip(again(given), model(given), strict=True):
        np.testing.assert_array_equal(a, b)
    assert relative(model([given[0], given[1] + 1])[1], model(given)[1]) > 0.01


@pytest.mark.parametrize("runner", ["loop", "replay"])
def test_stateful_goes_on_where_it_stopped(runner):
    x = values(2, 6, D)
    whole = Recurrent(LSTM(H), return_sequences=True, runner=runner)
    wanted = whole(x)
    layer = Recurrent(LSTM(H), return_sequences=True, stateful=True, runner=runner)
    layer.build((2, None, D))
    layer.cell.set_weights(whole.get_weights())
    for _ in range(2):
        found = tf.concat([layer(x[:, :4]), layer(x[:, 4:])], axis=1)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert relative(layer(x), wanted) > 0.01
        layer.reset_state()


def test_gradients_without_training_are_the_same():
    layer, x = Recurrent(LSTM(H)), values(2, 5, D)
    layer(x)
    assert worst(everything(layer, x, training=True), everything(layer, x)) < 1e-5


def test_keras_masks_travel_from_an_embedding():
    model = keras.Sequential(
        [keras.layers.Embedding(9, D, mask_zero=True), Recurrent(GRU(H), return_sequences=True)]
    )
    short, long = model(np.array([[3, 7]])), model(np.array([[3, 7, 0, 0]]))
    np.testing.assert_allclose(long[:, :2], short, atol=1e-6)
    np.testing.assert_array_equal(long[:, 2:], np.repeat(long[:, 1:2], 2, axis=1))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_loop_runs_on_another_backend(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = """
import numpy as np
import keras
from kerasrnn.cells import GRU, Dropout, LSTM
from kerasrnn.layers import Bidirectional, Recurrent
x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
mask = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 0]], bool)
layer = Bidirectional(Recurrent(LSTM(4), return_sequences=True))
a, b = layer(x, mask=mask), layer(x[:, :2], mask=mask[:, :2])
a, b = (keras.ops.convert_to_numpy(t) for t in (a, b))
print(layer.forward_layer.plan())
np.testing.assert_allclose(a[0, :2], b[0], atol=1e-6)
assert np.all(a[0, 2:] == 0) and np.all(a[1] != 0)
assert Recurrent(Dropout(GRU(4), 0.1, 0.1))(x, training=True).shape == (3, 4)
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"loop: the backend is {backend}\n"


def test_keras_exports_a_model_of_ours(tmp_path):
    """Keras's own export, time known and not: nothing in the graph that a converter cannot read."""
    for length in (6, None):
        model = keras.Sequential([keras.Input((length, 4)), Recurrent(GRU(3))])
        x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
        wanted = model(x)
        model.export(str(tmp_path / f"{length}.onnx"), format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(tmp_path / f"{length}.onnx")
        [found] = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(found, wanted, atol=1e-6)
