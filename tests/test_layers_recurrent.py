"""`Recurrent` against `keras.layers` with shared weights, and as a layer among layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU, LSTM, SimpleRNN
from kerasrnn.compat.tf2onnx import load_tf2onnx
from kerasrnn.engine.recurrence import exporting
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import MASKS, everything, float64, mask_of, scatter, values, worst

H, D = 4, 3
ORACLES = {
    "lstm": (lambda: LSTM(H), keras.layers.LSTM, {}),
    "gru": (lambda: GRU(H), keras.layers.GRU, {}),
    "gru before": (lambda: GRU(H, reset_after=False), keras.layers.GRU, {"reset_after": False}),
    "simple_rnn": (lambda: SimpleRNN(H), keras.layers.SimpleRNN, {}),
}


def pair(name, runner="auto", **options):
    """A Recurrent and the Keras layer with the same weights."""
    cell, oracle, extra = ORACLES[name]
    ours = Recurrent(cell(), return_state=True, runner=runner, **options)
    theirs = oracle(H, return_state=True, **options, **extra)
    x = values(3, 5, D)
    ours(x), theirs(x)
    scatter(theirs)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", ORACLES)
def test_equals_keras_with_every_mask(name, kind):
    with float64():
        ours, theirs = pair(name, return_sequences=True)
        x, mask = values(3, 5, D, seed=1), mask_of(kind)
        wanted = everything(theirs, x, mask=mask, training=True)
        for runner in ("loop", "replay"):
            ours.runner = runner
            assert worst(everything(ours, x, mask=mask, training=True), wanted) < 1e-12


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_last_output_and_initial_state_equal_keras(go_backwards, training):
    with float64():
        ours, theirs = pair("lstm", go_backwards=go_backwards)
        options = {
            "initial_state": [values(3, H, seed=2), values(3, H, seed=3)],
            "mask": mask_of("holes"),
            "training": training,
        }
        x = values(3, 5, D, seed=1)
        wanted = everything(theirs, x, **options)
        assert worst(everything(ours, x, **options), wanted) < 1e-12


def test_weights_have_kerass_names_and_shapes():
    for name in ORACLES:
        ours, theirs = pair(name)
        described = [[(w.name, tuple(w.shape)) for w in m.weights] for m in (ours, theirs)]
        assert described[0] == described[1]


def test_fits_in_a_model_and_survives_saving(tmp_path):
    inputs = keras.Input((None, D))
    h = Recurrent(LSTM(H), return_sequences=True)(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(Recurrent(GRU(H))(h)))
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).normal(size=(8, 5, D)), np.ones((8, 1))
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=3, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_masked_lstm_converts_to_onnx_while_exporting():
    import onnxruntime

    tf2onnx = load_tf2onnx()
    inputs, mask = keras.Input((None, D)), keras.Input((None,), dtype="bool")
    layer = Recurrent(LSTM(H), return_sequences=True)
    model = keras.Model([inputs, mask], layer(inputs, mask=mask))
    x, m = values(3, 5, D, seed=1), mask_of("right")
    with exporting():
        signature = [tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], tf.bool)]
        traced = tf.function(lambda x, m: model([x, m]), input_signature=signature)
        proto, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=18)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    found = session.run(None, dict(zip(names, [x.numpy(), m.numpy()], strict=True)))[0]
    np.testing.assert_allclose(found, model([x, m]), atol=1e-6)
