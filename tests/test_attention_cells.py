"""Cells that attend: the papers' equations, replay against the loop, padding, and the contracts."""

import itertools

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn import cells
from kerasrnn.attention.cells import BahdanauCell, HardCell, LuongCell
from kerasrnn.attention.scores import Additive, Bilinear, Dot, GatedAttention, Memory, ScaledDot
from kerasrnn.engine.recurrence import exporting
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.layers import Recurrent
from tests import attention_reference, catalog, reference
from tests.recurrent_cases import float64, mask_of, relative, scatter, values, worst
from tests.test_contracts import _without_dtypes

B, T, S, H = 3, 5, 4, 4  # x and memory are H wide too, for the cells that ask for it
REAL = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
CASES = {
    "additive gru": lambda: BahdanauCell(cells.GRU(H), Additive(5), H),
    "dot lstm": lambda: BahdanauCell(cells.LSTM(H), Dot(), H),
    "zoneout": lambda: BahdanauCell(cells.Zoneout(cells.LSTM(H), (0.2, 0.4)), ScaledDot(), H),
    "dropout": lambda: BahdanauCell(cells.Dropout(cells.GRU(H), 0.3, 0.3), Additive(5), H),
    "residual zoneout": lambda: BahdanauCell(
        cells.Residual(cells.Zoneout(cells.GRU(H), 0.3)), Additive(5), H
    ),
    "mut1": lambda: BahdanauCell(cells.MUT1(H), Additive(5), H),
    "jordan": lambda: BahdanauCell(cells.Jordan(H, outputs=3), Additive(5), H),
    "highway": lambda: BahdanauCell(cells.RecurrentHighway(H, depth=3), Additive(5), H),
    "full recurrence": lambda: BahdanauCell(cells.FullGateRecurrenceLSTM(H), Bilinear(), H),
    "gated": lambda: BahdanauCell(cells.LSTM(H), GatedAttention(Additive(5)), H),
    "hard": lambda: HardCell(cells.LSTM(H), GatedAttention(Additive(5)), H),
    "context dropped": lambda: BahdanauCell(cells.GRU(H), Additive(5), H, dropout=0.4),
    "hard, context dropped": lambda: HardCell(cells.LSTM(H), GatedAttention(Dot()), H, dropout=0.4),
    "luong": lambda: LuongCell(cells.GRU(H), Dot(), H, input_feeding=False),
    "input feeding": lambda: LuongCell(cells.LSTM(H), Additive(5), H),
    "feeding residual": lambda: LuongCell(cells.Residual(cells.GRU(H)), Bilinear(), H),
}


def prepared(make, **options) -> Recurrent:
    layer = Recurrent(make(), return_sequences=True, return_state=True, **options)
    layer.build((None, None, H))
    scatter(layer, scale=0.7)
    return layer


def attend(layer, x, m, real, **options):
    """Outputs and states over a memory that is made here."""
    memory = layer.cell.attention.memory(m, tf.constant(real))
    return tf.nest.flatten(layer(x, constants=memory, **options))


def learnt(layer, x, m, real, **options) -> list[np.ndarray]:
    """Outputs, states and the gradients to x, the memory's values and every weight."""
    with tf.GradientTape() as tape:
        tape.watch([x, m])
        outputs = attend(layer, x, m, real, **options)
        losses = [tf.sin(2 * o) * values(*o.shape, seed=20 + i) for i, o in enumerate(outputs)]
        loss = tf.add_n([tf.reduce_sum(part) for part in losses])
    gradients = tape.gradient(loss, [x, m, *layer.trainable_weights])
    return [t.numpy() for t in [*outputs, *gradients]]


@pytest.mark.parametrize(
    ("name", "kind"), zip(CASES, itertools.cycle(["holes", "none"]), strict=False)
)
def test_replay_is_the_loop(name, kind):
    with float64():
        layer, mask = prepared(CASES[name]), mask_of(kind)
        weights = {id(w) for w in layer.weights}
        seeds = [(v, v.numpy()) for v in layer.variables if id(v) not in weights]
        found = {}
        for runner in ("loop", "replay"):
            layer.runner = runner
            for variable, value in seeds:
                variable.assign(value)
            given = values(B, T, H), values(B, S, H, seed=1)
            found[runner] = learnt(layer, *given, REAL, mask=mask, training=True)
        assert worst(found["replay"], found["loop"]) < 1e-11
        assert min(np.abs(g).max() for g in found["loop"]) > 1e-3, "something learns nothing"


def test_a_dropped_context_is_not_fed_but_given():
    layer = prepared(lambda: BahdanauCell(cells.GRU(H), Additive(5), H, dropout=0.5, seed=1))
    given = values(40, 1, H), values(40, S, H, seed=1), np.ones((40, S), bool)
    found, context, _, _ = attend(layer, *given, training=True)
    kernel = layer.cell.context_kernel
    fed = kernel.numpy()
    np.testing.assert_allclose(context, attend(layer, *given)[1], atol=1e-6)
    kernel.assign(0 * fed)
    without = attend(layer, *given)[0]
    kernel.assign(2 * fed)
    doubled = attend(layer, *given)[0]
    kept = np.abs(found - without).max(axis=(1, 2)) > 1e-4
    assert 8 < kept.sum() < 32
    np.testing.assert_allclose(found, np.where(kept[:, None, None], doubled, without), atol=1e-6)


def paper(name, m, real):
    """The step of a paper for a case, and the sizes of its state."""
    score = attention_reference.additive
    if name == "input feeding":
        return attention_reference.luong_step(reference.lstm_step, score, m, real, True), 3
    if name == "luong":
        dot = attention_reference.dot
        return attention_reference.luong_step(reference.gru_step, dot, m, real, False), 1
    lstm, inner = name == "lstm", {"gru": reference.gru_step, "lstm": reference.lstm_step}
    step = inner["lstm" if lstm else "gru"]
    return attention_reference.bahdanau_step(step, score, m, real), 1 + lstm


@pytest.mark.parametrize("name", ["gru", "lstm", "luong", "input feeding"])
def test_the_equations_of_the_papers(name):
    """Feeding the context is a plain cell on [x; c] whose kernel is [kernel; context_kernel]."""
    makes = {
        "gru": CASES["additive gru"],
        "lstm": lambda: BahdanauCell(cells.LSTM(H), Additive(5), H),
    }
    with float64():
        layer = prepared(makes.get(name) or CASES[name])
        x, m = values(B, T, H), values(B, S, H, seed=1)
        step, count = paper(name, m.numpy(), REAL)
        weights = {w.name: w.numpy() for w in layer.weights}
        assert len(weights) == len(layer.weights), "two weights of one name"
        first = [values(B, H, seed=5 + i) for i in range(count)]
        y, states = reference.unroll(step, x.numpy(), [s.numpy() for s in first], weights)
        states_in = tf.nest.pack_sequence_as(layer.cell.state_size, first)
        found = attend(layer, x, m, REAL, initial_state=states_in)
        wanted = [*np.split(y, [H, 2 * H], axis=2), *states]
        assert worst(found, wanted) < 1e-13


@pytest.mark.parametrize("name", CASES)
def test_padded_memory_is_memory_alone(name):
    layer = prepared(CASES[name], runner="loop")
    x, m = values(B, T, H), values(B, S, H, seed=1)
    noisy = tf.where(REAL[..., None], m, 50 + m)
    together = [t.numpy() for t in attend(layer, x, noisy, REAL)]
    assert (together[2][:, :, ~REAL[0]][0] == 0).all() and together[2].shape == (B, T, S)
    np.testing.assert_allclose(together[2].sum(axis=2), 1, atol=1e-6)
    for b, length in enumerate(REAL.sum(axis=1)):
        alone = attend(layer, x[b : b + 1], m[b : b + 1, :length], REAL[b : b + 1, :length])
        for i, (f, w) in enumerate(zip(together, alone, strict=True)):
            places = i == 2 or (i == 3 and name.startswith("hard"))
            row = f[b, :, :length] if places else f[b]
            np.testing.assert_allclose(row, w[0], atol=2e-6)


def test_the_weights_move_with_the_query():
    layer = prepared(CASES["additive gru"])
    scatter(layer, scale=2.0)
    weights = attend(layer, 3 * values(B, T, H), values(B, S, H, seed=1), REAL)[2].numpy()
    assert np.abs(weights[1, 0] - weights[1, -1]).max() > 0.05


@keras.saving.register_keras_serializable(package="tests")
class Attending(keras.Model):
    """x, values and mask in; outputs, contexts and weights out."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        layer.build((None, None, H))
        self.built = True

    def call(self, inputs):
        x, m, real = inputs
        return self.layer(x, constants=self.layer.cell.attention.memory(m, real))

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["layer"]))


def given():
    return values(B, T, H), values(B, S, H, seed=1), tf.constant(REAL)


def attending(name) -> Attending:
    model = Attending(Recurrent(catalog.ATTENTION_CELLS[name](), return_sequences=True))
    scatter(model)
    return model


@pytest.mark.parametrize("name", catalog.ATTENTION_CELLS)
def test_saved_and_loaded(name, tmp_path):
    model = attending(name)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert len(loaded.weights) == len(model.weights)
    for a, b in zip(loaded(given()), model(given()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_a_functional_model_and_saved(tmp_path):
    """Keras hands the memory on as a list."""
    x, m, real = given()
    layer = Recurrent(CASES["additive gru"](), return_sequences=True)
    layer.build((None, None, H))
    scatter(layer)
    inputs = [keras.Input([None, H]), keras.Input([None, H]), keras.Input([None], dtype="bool")]
    memory = Memory(keras.layers.Dense(5, name="keys")(inputs[1]), *inputs[1:])
    model = keras.Model(inputs, layer(inputs[0], constants=memory))
    keys = model.get_layer("keys")(m)
    wanted = layer(x, constants=Memory(keys, m, real))
    model.save(tmp_path / "m.keras")
    for one in (model, keras.saving.load_model(tmp_path / "m.keras")):
        for f, w in zip(one([x, m, real]), wanted, strict=True):
            np.testing.assert_allclose(f, w, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", catalog.ATTENTION_CELLS)
def test_mixed_precision(name, policy):
    model = attending(name)
    config = keras.saving.serialize_keras_object(model)
    keras.config.set_dtype_policy(policy)
    try:
        half = keras.saving.deserialize_keras_object(_without_dtypes(config))
        half(given())
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    with tf.GradientTape() as tape:
        outputs = half(given())
        loss = tf.add_n([tf.reduce_sum(tf.cast(o, tf.float32)) for o in outputs[:2]])
    assert {o.dtype.name for o in outputs} == {policy.removeprefix("mixed_")}
    assert all(w.dtype == "float32" for w in half.weights)
    for gradient in tape.gradient(loss, half.trainable_weights):
        assert gradient.dtype == tf.float32 and np.isfinite(gradient).all()
    for f, w in zip(outputs[:3], model(given())[:3], strict=True):
        assert 0 < relative(tf.cast(f, tf.float32), w) < 0.05


@pytest.mark.parametrize("name", catalog.ATTENTION_CELLS)
def test_saved_model_and_onnx(name, tmp_path):
    """Traced on the portable path; batch, time and the memory's length left open."""
    model = attending(name)
    signature = [
        tf.TensorSpec([None, None, H], tf.float32, "x"),
        tf.TensorSpec([None, None, H], tf.float32, "values"),
        tf.TensorSpec([None, None], tf.bool, "mask"),
    ]

    def function(x, values, mask):
        return tuple(model((x, values, mask)))

    wanted = [t.numpy() for t in function(*given())]
    with exporting():
        module = tf.Module()
        module.model, module.serve = model, tf.function(function, input_signature=signature)
        tf.saved_model.save(module, str(tmp_path / "sm"))
        onnx = convert(function, signature, ["y", "context", "weights", "place"][: len(wanted)])
    loaded = tf.saved_model.load(str(tmp_path / "sm"))
    served = loaded.serve(*given())
    session = onnxruntime.InferenceSession(onnx.SerializeToString())
    names = ("x", "values", "mask")
    feed = {n: t.numpy() for n, t in zip(names, given(), strict=True)}
    for found in (served, session.run(None, feed)):
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f, w, atol=1e-5)
