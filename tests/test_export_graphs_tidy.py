"""ONNX files without what nobody reads, and with each weight once."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras import layers, ops
from onnx import TensorProto, helper, numpy_helper

from kerasrnn.export import keras_model
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.export.graphs.tidy import prune, share
from tests.recurrent_cases import scatter

V, D, H = 200, 32, 64


@keras.saving.register_keras_serializable(package="tests")
class Readout(layers.Layer):
    """Logits by the embedding's own table."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


def twice(layer):
    """A recurrent layer and an embedding, both used twice, and the table as the readout too."""
    one, other = (keras.Input([None], dtype="int32", name=name) for name in ("one", "other"))
    embedding = layers.Embedding(V, D, mask_zero=True)
    read = [layer(embedding(ids)) for ids in (one, other)]
    logits = Readout(embedding)(layers.Dense(D)(layers.Concatenate()(read)))
    return keras.Model([one, other], logits)


@pytest.mark.parametrize("kind", ["SimpleRNN", "GRU"])
def test_each_weight_is_stored_once(kind, tmp_path):
    model = twice(getattr(layers, kind)(H))
    scatter(model, scale=0.1)
    path = tmp_path / "m.onnx"
    keras_model.onnx(model, path)
    weights = 4 * sum(w.shape.num_elements() for w in model.weights)
    assert (
        weights < path.stat().st_size < weights + 25_000
    )  # names of layers, counted through a session, among it
    ids = [np.random.default_rng(i).integers(0, V, (2, 5 + i)) for i in range(2)]
    given = dict(zip(("one", "other"), (i.astype("int32") for i in ids), strict=True))
    [found] = onnxruntime.InferenceSession(path).run(None, given)
    np.testing.assert_allclose(found, model(ids), atol=1e-5)


def test_equal_constants_of_loops_are_one():
    """Two loops' bodies hold a constant each; names inside are the bodies' own."""
    value = numpy_helper.from_array(np.arange(4, dtype="float32"), "w")
    info = helper.make_tensor_value_info

    def loop(place: int):
        add = helper.make_node("Add", [f"h{place}", "w"], [f"n{place}"])
        inputs = [
            info(f"h{place}", TensorProto.FLOAT, [4]),
            info(f"x{place}", TensorProto.FLOAT, [1]),
        ]
        body = helper.make_graph(
            [add], "body", inputs, [info(f"n{place}", TensorProto.FLOAT, [4])], [value]
        )
        given = ["start", "x"] if place == 0 else ["y0", "x"]
        return helper.make_node("Scan", given, [f"y{place}"], body=body, num_scan_inputs=1)

    unread = helper.make_node("Neg", ["x"], ["nobody"])
    graph = helper.make_graph(
        [loop(0), unread, loop(1)],
        "loops",
        [info("start", TensorProto.FLOAT, [4]), info("x", TensorProto.FLOAT, ["T", 1])],
        [info("y1", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.ones(3, "float32"), "unread")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    prune(model.graph)
    share(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Scan", "Scan"]
    assert [list(tensor.dims) for tensor in model.graph.initializer] == [[4]]
    given = {"start": np.ones(4, "float32"), "x": np.zeros((3, 1), "float32")}
    [found] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given)
    np.testing.assert_allclose(found, 1 + 6 * np.arange(4))


def test_what_is_an_output_stays():
    """A matrix, the same one again, and its transpose, of which two are outputs."""
    table = np.random.default_rng(0).normal(size=(40, 30)).astype("float32")

    def function(x):
        return x @ tf.constant(table), tf.constant(table), tf.constant(table.T)

    model = convert(function, [tf.TensorSpec([None, 40], tf.float32, "x")], ["y", "t", "turned"])
    assert len(model.SerializeToString()) < 1.2 * table.nbytes
    x = np.ones((2, 40), "float32")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for found, wanted in zip(session.run(None, {"x": x}), function(x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
