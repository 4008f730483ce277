"""Any Keras model as ONNX: recurrent layers as operators, names, open sizes, refusals."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

import kerasrnn.export as exports
from kerasrnn import cells
from kerasrnn.base.errors import InputError
from kerasrnn.export import keras_model
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.loops import nodes
from kerasrnn.export.metadata import read_metadata
from kerasrnn.export.verify import VerificationError
from kerasrnn.layers import Bidirectional, Recurrent
from tests.recurrent_cases import scatter


def reader():
    """Ids with a mask, both directions, a stack."""
    model = keras.Sequential(
        [
            keras.Input([None], dtype="int32", name="ids"),
            layers.Embedding(9, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
            layers.GRU(6, reset_after=False, return_sequences=True, go_backwards=True),
            layers.SimpleRNN(4, activation="relu"),
            layers.Dense(3, name="answer"),
        ]
    )
    return model, {"LSTM": 1, "GRU": 1, "Scan": 1}


def masked_states():
    """Two inputs, `Masking`, states out, a nested model, `TimeDistributed`."""
    x = keras.Input([6, 4], name="x")
    first = keras.Input([5], name="first")
    inner = keras.Sequential([keras.Input([6, 4]), layers.GRU(4, return_sequences=True)])
    y, h, c = layers.LSTM(5, return_sequences=True, return_state=True, name="lstm")(
        layers.Masking()(inner(x)), initial_state=[first, first]
    )
    y = layers.TimeDistributed(layers.Dense(2), name="every")(y)
    return keras.Model({"x": x, "first": first}, [y, h, c]), {"LSTM": 1, "GRU": 1}


def no_recurrence():
    image = keras.Input([16, 16, 3], name="image")
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(image)
    x = layers.LayerNormalization()(x)
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pooled")(x)), {}


@keras.saving.register_keras_serializable(package="tests")
class Tagger(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.read = Recurrent(cells.PeepholeLSTM(4), return_sequences=True)
        self.tag = layers.Dense(3)

    def call(self, x):
        return self.tag(self.read(x))


def subclassed():
    model = Tagger()
    model(np.zeros([2, 5, 3], "float32"))
    return model, {"LSTM": 1}


MODELS = {f.__name__: f for f in (reader, masked_states, no_recurrence, subclassed)}


@pytest.mark.parametrize("name", MODELS)
def test_keras_and_onnx_say_the_same(name, tmp_path):
    model, wanted = MODELS[name]()
    scatter(model)
    path = tmp_path / "m.onnx"
    adoption = keras_model.onnx(model, path)
    assert not adoption.left and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    file = onnx.load(path)
    found = [node.op_type for node in nodes(file.graph)]
    assert "Loop" not in found
    assert {kind: found.count(kind) for kind in wanted} == wanted
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert metadata["task"] == "keras model" and metadata["keras"] == keras.__version__
    session = onnxruntime.InferenceSession(path)
    random = np.random.default_rng(5)
    for batch in (1, 4):
        given = {}
        for one in session.get_inputs():
            shape = [batch, *(s if isinstance(s, int) else 11 for s in one.shape[1:])]
            ids = one.type == "tensor(int32)"
            given[one.name] = random.integers(0, 9, shape) if ids else random.normal(size=shape)
            given[one.name] = given[one.name].astype("int32" if ids else "float32")
        called = given if len(given) > 1 else next(iter(given.values()))
        right = keras.tree.flatten(model(called))
        for f, w in zip(session.run(None, given), right, strict=True):
            np.testing.assert_allclose(f, w, atol=1e-5)


def test_names_are_the_models_own_and_each_once(tmp_path):
    model, _ = masked_states()
    keras_model.onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert {one.name for one in session.get_inputs()} == {"x", "first"}
    assert [one.name for one in session.get_outputs()] == ["every", "lstm", "lstm_1"]


def test_a_sequential_model_has_its_last_layers_name(tmp_path):
    keras_model.onnx(reader()[0], tmp_path / "m.onnx")
    [answer] = onnxruntime.InferenceSession(tmp_path / "m.onnx").get_outputs()
    assert answer.name == "answer"


def test_half_precision_is_compared_as_such(tmp_path):
    x = keras.Input([None, 4], name="x")
    half = layers.LSTM(6, dtype="mixed_float16")(x)
    model = keras.Model(x, layers.Dense(2, dtype="float32")(half))
    keras_model.onnx(model, tmp_path / "m.onnx")
    given = np.random.default_rng(1).normal(size=(2, 5, 4)).astype("float32")
    [found] = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": given})
    np.testing.assert_allclose(found, model(given), atol=1e-2)


@keras.saving.register_keras_serializable(package="tests")
class Stock(Tagger):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.read = layers.LSTM(4, name="stock")


def test_what_a_subclassed_model_has_inside_is_said(tmp_path):
    model = Stock()
    model(np.zeros([2, 5, 3], "float32"))
    adoption = keras_model.onnx(model, tmp_path / "m.onnx")
    assert adoption.left == [("stock", "inside a subclassed model")]
    assert str(keras_model.onnx(no_recurrence()[0], tmp_path / "n.onnx")) == "no recurrent layers"


@keras.saving.register_keras_serializable("tests")
class Leaky(cells.Cell):
    """A user's own: the state leaks into what comes."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def project(self, x, training=None):
        return keras.ops.matmul(x, self.kernel)

    def step(self, z, h, linear):
        h = 0.9 * h + keras.ops.tanh(z)
        return h, h


def test_the_report_names_what_every_recurrence_became(tmp_path):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=[2, 5, 3]),
            Recurrent(Leaky(3), return_sequences=True, name="own"),
            Bidirectional(Recurrent(cells.Dropout(cells.GRU(4), 0.5), True), name="both"),
            Recurrent(cells.SimpleRNN(3), return_sequences=True, stateful=True, name="kept"),
            layers.LSTM(3, name="stock"),
        ]
    )
    report = str(keras_model.onnx(model, tmp_path / "m.onnx"))
    assert report.splitlines() == [
        "replaced stock: LSTM by Recurrent(LSTM), in ONNX LSTM",
        "already own: Recurrent(Leaky), in ONNX Loop",
        "already both: Bidirectional(Recurrent(Dropout(GRU))), in ONNX GRU",
        "already kept: Recurrent(SimpleRNN), in ONNX Scan",
    ]
    kinds = [node.op_type for node in nodes(onnx.load(tmp_path / "m.onnx").graph)]
    assert [kinds.count(k) for k in ("LSTM", "Loop", "GRU", "Scan")] == [1, 1, 1, 1]
    (own,) = keras_model.onnx(subclassed()[0], tmp_path / "s.onnx").already
    assert own[1] == "Recurrent(PeepholeLSTM)"


def test_where_it_cannot_write(tmp_path):
    model, _ = no_recurrence()
    with pytest.raises(InputError, match=f"^path: expected a file to write, got {tmp_path}, a fol"):
        keras_model.onnx(model, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^path: expected a place that can be written, got "):
        keras_model.onnx(model, tmp_path / "file" / "m.onnx")


def test_what_is_left_is_said_and_still_right(tmp_path):
    inputs = keras.Input([None, 3])
    x = layers.LSTM(4, kernel_regularizer="l2", name="odd")(inputs)
    adoption = exports.onnx(keras.Model(inputs, x), tmp_path / "m.onnx")
    assert adoption.left == [("odd", "it has kernel_regularizer")]


def test_the_caller_carries_the_state(tmp_path):
    """Two calls in a row, the states of one handed to the next, as the model keeps them itself."""
    x = keras.Input(batch_shape=[2, 5, 3], name="x")
    y = layers.LSTM(4, stateful=True, return_sequences=True, name="keeper")(layers.Masking()(x))
    y = layers.Bidirectional(layers.GRU(3, stateful=True, name="gru"), name="both")(y)
    left = layers.SimpleRNN(2, stateful=True, kernel_regularizer="l2", name="left")(x)
    model = keras.Model(x, layers.Concatenate(name="answer")([y, left]))
    scatter(model)
    before = [np.array(v) for v in model.variables]
    adoption = keras_model.onnx(model, tmp_path / "m.onnx")
    assert [name for name, _ in adoption.left] == ["left"]
    for was, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, variable)  # the check's calls moved nothing
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    states = [one.name for one in session.get_inputs()][1:]
    assert {"keeper_state_0", "keeper_state_1", "left_state_0"} < set(states)
    names = [one.name for one in session.get_outputs()]
    assert names == ["answer", *[name.replace("_state_", "_next_state_") for name in states]]
    shapes = {one.name: one.shape for one in session.get_inputs()}
    carried = {name: np.zeros(shapes[name], "float32") for name in states}
    for layer in model._flatten_layers():
        if isinstance(layer, layers.RNN):
            layer.reset_state()
    for call in range(2):
        given = np.random.default_rng(call).normal(size=(2, 5, 3)).astype("float32")
        given[0, 3:] = 0
        found, *after = session.run(None, {"x": given, **carried})
        np.testing.assert_allclose(found, model(given), atol=1e-5)
        carried = dict(zip(states, after, strict=True))


def test_large_constants_stand_beside_the_file(tmp_path, monkeypatch):
    model, _ = reader()
    inside, path = tmp_path / "inside.onnx", tmp_path / "m.onnx"
    keras_model.onnx(model, inside)
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    monkeypatch.setattr(onnx_file, "OUTSIDE", 100)
    monkeypatch.setattr(keras_model, "LARGE", 100)
    for _ in range(2):  # it replaces both
        keras_model.onnx(model, path)
    beside = tmp_path / "m.onnx.data"
    assert {p.name for p in tmp_path.iterdir()} == {"inside.onnx", "m.onnx", "m.onnx.data"}
    assert beside.stat().st_size > 1000 and path.stat().st_size < inside.stat().st_size - 1000
    assert beside.stat().st_mode == path.stat().st_mode
    assert read_metadata(path) == read_metadata(inside)
    ids = np.random.default_rng(2).integers(0, 9, (3, 7)).astype("int32")
    files = [
        onnxruntime.InferenceSession(file).run(None, {"ids": ids})[0] for file in (inside, path)
    ]
    np.testing.assert_array_equal(*files)


def test_where_a_check_fails_neither_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    monkeypatch.setattr(onnx_file, "OUTSIDE", 100)
    monkeypatch.setattr(keras_model, "TOLERANCE", -1.0)
    with pytest.raises(VerificationError, match=r"m\.onnx: answer is off by"):
        keras_model.onnx(reader()[0], tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_fails_without_a_word_is_one_line(tmp_path, monkeypatch):
    def convert(*arguments):
        raise NotImplementedError

    monkeypatch.setattr(onnx_file, "convert", convert)
    with pytest.raises(InputError, match=r"expected parts that ONNX has, got NotImplementedError;"):
        keras_model.onnx(reader()[0], tmp_path / "m.onnx")


def test_what_it_refuses(tmp_path):
    text = keras.Sequential(
        [keras.Input([1], dtype="string"), layers.TextVectorization(vocabulary=["a", "b"])]
    )
    unbuilt = keras.Sequential([layers.Dense(2)])
    for model, message in (
        (unbuilt, "model: expected a built keras.Model, got Sequential, not built or never called"),
        ("text", "model: expected a keras.Model, got str; put layers into a Sequential"),
        (text, "model: expected parts that ONNX has, got TensorFlow's Lookup"),
    ):
        with pytest.raises(InputError) as error:
            keras_model.onnx(model, tmp_path / "m.onnx")
        assert str(error.value).startswith(message)
    assert list(tmp_path.iterdir()) == []
