"""Smaller ONNX files: what became of each node, how large they are, what they compute."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers
from onnx import helper, numpy_helper

import kerasrnn.export as exports
from kerasrnn.base.errors import InputError
from kerasrnn.export import load, quantization, quantize, read_metadata, verify_export
from kerasrnn.export.graphs.loops import graphs, nodes
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.export.verify import VerificationError, count_agreeing
from kerasrnn.models import LanguageModel
from kerasrnn.tasks import exporting
from kerasrnn.text.tokenizers import CharTokenizer
from tests.test_export import feed


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in nodes(model.graph)]


def held(model: onnx.ModelProto, kind=onnx.TensorProto.FLOAT) -> int:
    """Numbers in the weights of a kind."""
    tensors = (tensor for one in graphs(model.graph) for tensor in one.initializer)
    return sum(int(np.prod(t.dims)) for t in tensors if t.data_type == kind and len(t.dims) > 1)


def run(model: onnx.ModelProto, inputs: dict) -> list[np.ndarray]:
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """The error's share, as the root of means of squares."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A Keras model with every kind of recurrent layer, and its file."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input([None], dtype="int32", name="ids"),
            layers.Embedding(500, 128, mask_zero=True),
            layers.Bidirectional(layers.LSTM(128, return_sequences=True)),
            layers.GRU(96, return_sequences=True),
            layers.SimpleRNN(128),
            layers.Dense(600, name="answer"),
        ]
    )
    path = tmp_path_factory.mktemp("reader") / "reader.onnx"
    exports.onnx(model, path)
    return model, path


def test_every_kind_of_layer(reader, tmp_path):
    model, path = reader
    ids = np.random.default_rng(0).integers(1, 500, [4, 20]).astype("int32")
    ids[1, 7:] = ids[2, :] = 0  # a shorter row, an empty one
    expected = model.predict(ids, verbose=0)
    bounds = {"int8": (0.33, 0.05), "fp16": (0.56, 0.001)}
    for kind, (share, error) in bounds.items():
        small = quantize(path, tmp_path / f"{kind}.onnx", kind)
        assert small.stat().st_size < share * path.stat().st_size
        found = load(small)({"ids": ids})["answer"]
        assert 0 < off(found, expected) < error
        assert read_metadata(small)["quantized"] == kind
        assert count_agreeing(small, [{"ids": ids}], [{"answer": expected}], kind).same == 1
    ops = kinds(onnx.load(tmp_path / "int8.onnx"))
    assert ops.count("DynamicQuantizeLSTM") == 1 and "LSTM" not in ops
    assert ops.count("MatMulIntegerToFloat") == 1
    assert ops.count("MatMul") == 2  # of the SimpleRNN, too small to be worth it
    assert ops.count("GRU") == ops.count("Scan") == 1
    assert held(onnx.load(tmp_path / "int8.onnx")) < 0.05 * held(onnx.load(path))
    assert "LSTM" in kinds(onnx.load(tmp_path / "fp16.onnx"))


def test_the_bodies_of_loops():
    """A weight read in a loop, one split there, and one that is turned and looked up."""
    random = np.random.default_rng(1)

    def weight(*shape):
        return tf.Variable(random.normal(size=shape).astype("float32") / 16)

    table, square, wide = weight(300, 256), weight(256, 256), weight(256, 512)

    def function(ids, x):
        def body(i, h, _):
            left, right = tf.split(tf.identity(wide), 2, axis=1)
            h = tf.tanh(h @ left + h @ right + h @ square + tf.gather(table, ids))
            return i + 1, h, tf.matmul(h, table, transpose_b=True)

        logits = tf.zeros([tf.shape(x)[0], 300])
        return tf.while_loop(lambda i, *_: i < 3, body, (0, x, logits))[1:]

    specs = [tf.TensorSpec([None], tf.int32, "ids"), tf.TensorSpec([None, 256], tf.float32, "x")]
    model = convert(function, specs, ["h", "logits"])
    small = quantization.smaller(model, "int8")
    assert kinds(small).count("MatMulIntegerToFloat") == 4 and "MatMul" not in kinds(small)
    assert kinds(small).count("DynamicQuantizeLinear") == 2, "h is rounded once for three products"
    # Nothing is left in float32 but scales; the table stands once.
    assert held(small) == 300
    assert held(small, onnx.TensorProto.INT8) == 300 * 256 + 256 * 256 + 256 * 512
    x = random.normal(size=[5, 256]).astype("float32")
    inputs = {"ids": np.array([0, 3, 299, 7, 7], np.int32), "x": x}
    for found, expected in zip(run(small, inputs), run(model, inputs), strict=True):
        assert 0 < off(found, expected) < 0.06
    halves = quantization.smaller(model, "fp16")
    for found, expected in zip(run(halves, inputs), run(model, inputs), strict=True):
        assert 0 < off(found, expected) < 0.001


def test_a_value_rounded_outside_and_inside_a_loop():
    """Names of what is rounded stay apart."""
    random = np.random.default_rng(2)
    weight = tf.Variable(random.normal(size=(256, 256)).astype("float32") / 16)

    def function(x):
        def body(i, h):
            return i + 1, h + tf.tanh(x @ weight)

        return tf.tanh(x @ weight) + tf.while_loop(lambda i, h: i < 2, body, (0, x))[1]

    model = convert(function, [tf.TensorSpec([None, 256], tf.float32, "x")], ["y"])
    small = quantization.smaller(model, "int8")
    x = random.normal(size=(2, 256)).astype("float32")
    assert "MatMul" not in kinds(small)
    assert 0 < off(run(small, {"x": x})[0], run(model, {"x": x})[0]) < 0.03


def test_what_float16_cannot_hold_stays():
    weight = np.full((64, 64), 1e5, "float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", 1, [None, 64])],
        [helper.make_tensor_value_info("y", 1, [None, 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert held(quantization.smaller(model, "fp16")) == 64 * 64
    small = quantization.smaller(model, "int8")  # too small for a product: stored
    assert held(small, onnx.TensorProto.INT8) == 64 * 64 and "MatMul" in kinds(small)
    x = np.ones((1, 64), np.float32)
    np.testing.assert_allclose(run(small, {"x": x})[0], x @ weight, rtol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A language model, its full and its smaller files."""
    keras.utils.set_random_seed(5)
    tokenizer = CharTokenizer(list("abcdefghijklmnopqrstuvwxyz .,\n"))
    model = LanguageModel(tokenizer, cell="lstm", units=256, layers=1, embedding=64)
    out, seen = tmp_path_factory.mktemp("small") / "lm", []

    def measure(path):
        seen.append(path.name)
        return {"nats": 1.0 if path.name == "model.onnx" else 2.0, "tokens": 7}

    written = exports.export(model, out, ["onnx"], quantized=("int8", "fp16"), measure=measure)
    assert seen == ["model.onnx", "model.int8.onnx", "model.fp16.onnx"]
    return model, written


def test_a_language_model(exported):
    _, (full, int8, fp16) = exported
    assert [path.name for path in (int8, fp16)] == ["model.int8.onnx", "model.fp16.onnx"]
    assert int8.stat().st_size < 0.35 * full.stat().st_size
    assert 0.45 < fp16.stat().st_size / full.stat().st_size < 0.56
    said = read_metadata(int8)
    assert said["quantized"] == "int8" and said["task"] == "lm"
    assert json.loads(said["measured"]) == {
        "full": {"nats": 1.0, "tokens": 7},
        "int8": {"nats": 2.0, "tokens": 7},
    }
    assert "quantized" not in read_metadata(full)
    case = feed(["the ", "a"], 9, 0.0)
    expected, found = load(full)(case), load(int8)(case)
    assert {n: v.dtype for n, v in expected.items()} == {n: v.dtype for n, v in found.items()}
    np.testing.assert_allclose(found["score"], expected["score"], rtol=0.1)
    assert not np.array_equal(found["score"], expected["score"])


def test_a_quantized_file_is_never_said_to_be_the_model(exported):
    model, (full, int8, fp16) = exported
    assert verify_export(model, full) is None
    for path in (int8, fp16):
        found = verify_export(model, path)
        assert 0 < found.same <= found.cases == 8 and found.off is None
    other = LanguageModel(model.tokenizer, cell="lstm", units=16, layers=1, embedding=64)
    found = verify_export(other, int8)
    assert found.same < found.cases


def test_outputs_of_another_kind_are_refused(reader, tmp_path, monkeypatch):
    def broken(model):
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        last = model.graph.node[-1]
        model.graph.node.append(helper.make_node("Cast", ["y_"], [last.output[0]], to=11))
        last.output[0] = "y_"

    monkeypatch.setitem(quantization.KINDS, "int8", broken)
    with pytest.raises(
        VerificationError, match=r"^s\.onnx: answer is float64 of rank 2, not float32"
    ):
        quantize(reader[1], tmp_path / "s.onnx", "int8")
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(exported, reader, tmp_path):
    model, _ = exported
    (tmp_path / "x.onnx").write_bytes(b"no")
    for call, message in (
        (
            lambda: quantize(reader[1], tmp_path / "y.onnx", "int4"),
            "kind: expected one of int8, fp16, got int4; choose one of them",
        ),
        (
            lambda: quantize(tmp_path / "x.onnx", tmp_path / "y.onnx", "int8"),
            f"path: expected an ONNX file, got {tmp_path}/x.onnx",
        ),
        (
            lambda: quantize(tmp_path / "no.onnx", tmp_path / "y.onnx", "int8"),
            f"path: expected an ONNX file, got {tmp_path}/no.onnx",
        ),
        (
            lambda: exports.export(model, tmp_path / "out", ["onnx"], quantized=["int4"]),
            "quantize: expected one of int8, fp16, got int4; choose one of them",
        ),
        (
            lambda: exports.export(model, tmp_path / "out", ["saved_model"], quantized=["int8"]),
            "--quantize: expected --format onnx or all, got --format saved_model; change --format",
        ),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value).startswith(message)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


def test_only_onnx_files_can_be_measured(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<!doctype html>")
    assert exporting.measured([page, tmp_path]) == {}
