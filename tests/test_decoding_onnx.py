"""Sampling, greedy, ensembles and unknown words: traced, and the same ids in ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn.decoding.sampling import PAD, Sampling, ensemble, greedy, most_attended, sample
from kerasrnn.export.graphs.onnx_file import convert
from tests.beam_reference import Automaton
from tests.spelling import noisy, spell, words

CASES = [
    (0, 1.0, 0, 1.0),
    (1, 1.0, 0, 1.0),
    (30, 0.0, 0, 1.0),
    (30, 0.3, 0, 1.0),
    (30, 1.0, 0, 1.0),
    (30, 2.0, 5, 1.0),
    (30, 1.0, 0, 0.7),
    (30, 1.5, 9, 0.8),
]


def test_traced_equals_eager():
    @tf.function(reduce_retracing=True)
    def traced(ids, length, temperature, top_k, top_p, seed):
        state = tf.zeros(tf.shape(ids), tf.int32)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        return tuple(sample(noisy, ids, state, length, Sampling(**options), banned=(PAD,))[:3])

    for length, temperature, top_k, top_p in CASES:
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": 5}
        begin = tf.range(4, 10), tf.zeros([6], tf.int32)
        eager = sample(noisy, *begin, length, Sampling(**options), banned=(PAD,))
        scalars = (tf.constant(length), tf.constant(temperature, tf.float32), tf.constant(top_k))
        found = traced(tf.range(4, 10), *scalars, tf.constant(top_p, tf.float32), tf.constant(5))
        for a, b in zip(found, eager, strict=False):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.fixture(scope="module")
def in_onnx():
    """(TensorFlow's function, an ONNX Runtime session) over `noisy`."""

    def function(ids, length, temperature, top_k, top_p, seed):
        state = tf.zeros(tf.shape(ids), tf.int32)
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        return tuple(sample(noisy, ids, state, length, Sampling(**options), banned=(PAD, 1))[:3])

    integer, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
    signature = [tf.TensorSpec([None], tf.int32), integer, real, integer, real, integer]
    names = ("ids", "length", "temperature", "top_k", "top_p", "seed")
    signature = [tf.TensorSpec(s.shape, s.dtype, n) for s, n in zip(signature, names, strict=True)]
    model = convert(function, signature, ["out", "lengths", "scores"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return tf.function(function, input_signature=signature), session


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("length, temperature, top_k, top_p", CASES)
def test_onnx_runtime_draws_the_same_ids(in_onnx, rows, length, temperature, top_k, top_p):
    function, session = in_onnx
    for seed in (5, -7, 2**31 - 1):
        inputs = {
            "ids": np.arange(4, 4 + rows, dtype="int32"),
            "length": np.int32(length),
            "temperature": np.float32(temperature),
            "top_k": np.int32(top_k),
            "top_p": np.float32(top_p),
            "seed": np.int32(seed),
        }
        wanted = [t.numpy() for t in function(**inputs)]
        found = session.run(
            ["out", "lengths", "scores"], {k: np.asarray(v) for k, v in inputs.items()}
        )
        assert wanted[0].shape[0] == rows and wanted[0].shape[1] <= length
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])
        np.testing.assert_allclose(found[2], wanted[2], rtol=1e-4)


def test_onnx_runtime_stops_early_too():
    def function(length):
        return tuple(sample(*words("tide", "on", "sail"), length, Sampling(temperature=0.0))[:3])

    model = convert(function, [tf.TensorSpec([], tf.int32, "length")], ["out", "lengths", "scores"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for length, shape in ((0, 0), (1, 1), (3, 3), (90, 5)):
        found, lengths, _ = session.run(None, {"length": np.array(length, "int32")})
        assert spell(found) == [w[:shape] for w in ("tide", "on", "sail")]
        assert found.shape == (3, shape) and lengths.tolist() == [min(n, shape) for n in (4, 2, 4)]


class Greedy(tf.Module):
    """An ensemble of two half as sure as each other, one of which reports attention."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32, "ids"),
            tf.TensorSpec([None], tf.int32, "length"),
        ]
    )
    def decode(self, ids, length):
        automata = Automaton(3, end=-5.0), Automaton(8, end=-5.0)
        step = ensemble([automata[0], automata[1].silent])
        decoded = greedy(step, ids, (ids % 5, ids % 7), length, banned=(PAD, 1))
        return (*decoded, most_attended(decoded.attention))


def test_greedy_and_ensembles_in_a_saved_model_and_in_onnx(tmp_path):
    module = Greedy()
    tf.saved_model.save(module, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    signature = module.decode.input_signature
    names = ["out", "lengths", "scores", "attention", "position"]
    model = convert(module.decode.python_function, list(signature), names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for rows, most in ((1, 6), (5, 9), (3, 0)):
        ids = np.arange(4, 4 + rows, dtype="int32")
        length = np.maximum(most - np.arange(rows), 0).astype("int32")
        wanted = module.decode(ids, length)
        served = loaded.decode(ids, length)
        found = session.run(names, {"ids": ids, "length": length})
        assert wanted[0].shape[1] == most and (wanted[1].numpy() <= length).all()
        for a, b, c in zip(wanted, served, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
            np.testing.assert_allclose(a, c, atol=1e-5)
