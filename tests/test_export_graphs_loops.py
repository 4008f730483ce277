"""ONNX loops read what does not change from outside, and compute the same."""

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from kerasrnn.export.graphs.loops import read_from_outside
from kerasrnn.export.graphs.onnx_file import convert


def loops(graph) -> list[onnx.NodeProto]:
    """Every loop of a graph, those inside others too."""
    found = []
    for node in graph.node:
        found += [node] * (node.op_type == "Loop")
        for attribute in node.attribute:
            found += loops(attribute.g)
    return found


def test_weights_are_read_from_outside():
    random = np.random.default_rng(0)
    weight = tf.Variable(random.normal(size=(4, 4)).astype("float32"))

    def function(x, bias):
        """Two loops, one in the other; the bias comes out again unchanged."""

        def inner(j, h):
            return j + 1, tf.tanh(h @ weight + bias)

        def outer(i, h, same):
            return i + 1, 0.5 * tf.while_loop(lambda j, h: j < i, inner, (0, h))[1], same

        _, h, same = tf.while_loop(lambda i, *_: i < 4, outer, (tf.constant(0), x, bias))
        return h, same

    signature = [
        tf.TensorSpec([None, 4], tf.float32, "x"),
        tf.TensorSpec([4], tf.float32, "bias"),
    ]
    model = convert(function, signature, ["h", "same"])
    onnx.checker.check_model(model, full_check=True)
    outer, inner = loops(model.graph)
    # Trip count and condition, the counter, h; the inner loop has no more either.
    assert len(outer.input) == len(inner.input) == 4
    assert [list(i.dims) for i in model.graph.initializer].count([4, 4]) == 1
    session = onnxruntime.InferenceSession(model.SerializeToString())
    inputs = {
        "x": random.normal(size=(3, 4)).astype("float32"),
        "bias": random.normal(size=4).astype("float32"),
    }
    for found, wanted in zip(session.run(None, inputs), function(**inputs), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_array_equal(session.run(["same"], inputs)[0], inputs["bias"])


def test_what_changes_is_carried_on():
    """Two values that are swapped at each step, one that is scaled, one that stays."""

    def function(a, b, c):
        body = lambda i, a, b, c, same: (i + 1, b, a, 2.0 * c, same)  # noqa: E731
        return tf.while_loop(lambda i, *_: i < 3, body, (tf.constant(0), a, b, c, c))[1:]

    signature = [tf.TensorSpec([], tf.float32, name) for name in "abc"]
    model = convert(function, signature, ["a_", "b_", "c_", "same"])
    before = model.SerializeToString()
    read_from_outside(model.graph)
    assert model.SerializeToString() == before  # once is enough
    session = onnxruntime.InferenceSession(before)
    inputs = {"a": np.array(1, "float32"), "b": np.array(2, "float32"), "c": np.array(3, "float32")}
    assert [float(x) for x in session.run(None, inputs)] == [2, 1, 24, 3]
