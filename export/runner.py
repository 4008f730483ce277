"""Runs an exported artifact. Imports onnxruntime or tensorflow and numpy only, nothing of ours.

As a program, `python runner.py ARTIFACT INPUTS.npz OUTPUTS.npz` answers every case in a fresh
process: keys are "CASE/NAME".
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

CONTRIB = "ai.onnx.contrib"


def load(path: str | Path):
    """The artifact as a function: a dict of input arrays -> a dict of output arrays.

    Its attribute `inputs` has their names; a SavedModel takes the inputs of any of its signatures.
    """
    path = Path(path)
    return _saved_model(path) if path.is_dir() else _onnx(path)


def _onnx(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if CONTRIB.encode() in path.read_bytes():
        from onnxruntime_extensions import get_library_path

        options.register_custom_ops_library(get_library_path())
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict) -> dict:
        return dict(zip(names, session.run(None, inputs), strict=True))

    run.inputs = [given.name for given in session.get_inputs()]
    return run


def _saved_model(path: Path):
    import tensorflow as tf

    if (path / "assets.extra" / "needs_tensorflow_text").exists():
        import tensorflow_text  # noqa: F401  (registers the operators)
    loaded = tf.saved_model.load(str(path))
    by_inputs = {frozenset(s.structured_input_signature[1]): s for s in loaded.signatures.values()}

    def run(inputs: dict) -> dict:
        answer = by_inputs[frozenset(inputs)](**_tensors(inputs))
        return {name: decoded(value.numpy()) for name, value in answer.items()}

    run.inputs = list(loaded.signatures["serving_default"].structured_input_signature[1])
    run.keep = loaded  # the signature alone does not keep its variables alive
    return run


def _tensors(inputs: dict) -> dict:
    import tensorflow as tf

    return {
        name: tf.constant(value.tolist(), tf.string)
        if value.dtype == object
        else tf.constant(value)
        for name, value in inputs.items()
    }


def decoded(value: np.ndarray) -> np.ndarray:
    """Bytes as the strings that ONNX Runtime gives."""
    if value.dtype != object:
        return value
    return np.array([v.decode("utf-8") for v in value.ravel()], object).reshape(value.shape)


def main(artifact: str, inputs: str, outputs: str) -> None:
    run = load(artifact)
    cases: dict[str, dict] = defaultdict(dict)
    with np.load(inputs, allow_pickle=True) as arrays:
        for key in arrays.files:
            case, name = key.split("/")
            cases[case][name] = arrays[key]
    answers = {f"{c}/{n}": v for c, feed in cases.items() for n, v in run(feed).items()}
    np.savez(outputs, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
