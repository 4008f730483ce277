"""What `verify` says of a quantized file, and of a process that does not answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kerasrnn.export import runner
from kerasrnn.export.verify import ROUNDED, Agreement, VerificationError, count_agreeing, run_fresh

CASES = [{"x": np.array([[1.0, -4.0], [2.0, 3.0]], np.float32) * scale} for scale in (1, 100)]


def file(path, factor: float, ids: bool = False):
    """y = factor · x and, if asked for, the place of the largest."""
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    outputs = [info("y", TensorProto.FLOAT, [None, 2])]
    if ids:
        nodes.append(helper.make_node("ArgMax", ["y"], ["ids"], axis=1, keepdims=0))
        outputs.append(info("ids", TensorProto.INT64, [None]))
    weight = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    inputs = [info("x", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    factors = {"same": 1.0, "near": 1.01, "wrong": -1.0}
    return {name: file(folder / f"{name}.onnx", factor) for name, factor in factors.items()}


def test_floats_agree_within_what_rounding_does_and_never_by_any_distance(files):
    expected = [{"y": case["x"]} for case in CASES]
    assert ROUNDED["fp16"] < 0.01 < ROUNDED["int8"]
    for name, kind, same, off in (
        ("same", "fp16", 2, 0.0),
        ("near", "fp16", 0, 0.01),
        ("near", "int8", 2, 0.01),
        ("wrong", "int8", 0, 2.0),
    ):
        found = count_agreeing(files[name], CASES, expected, kind)
        assert found == Agreement(same, 2, pytest.approx(off, abs=1e-6)), name


def test_a_float_that_is_none_or_of_another_shape_does_not_agree(files):
    nan = [{"y": np.where(case["x"] == case["x"].max(), np.nan, case["x"])} for case in CASES]
    short = [{"y": case["x"][:1]} for case in CASES]
    for expected in (nan, short):
        assert count_agreeing(files["same"], CASES, expected, "int8") == Agreement(0, 2, np.inf)


def test_ids_are_the_same_or_not_whatever_the_floats_beside_them(tmp_path):
    expected = [{"y": case["x"], "ids": case["x"].argmax(1)} for case in CASES]
    for factor, same in ((5.0, 2), (-1.0, 0)):
        path = file(tmp_path / "ids.onnx", factor, ids=True)
        assert count_agreeing(path, CASES, expected, "fp16") == Agreement(same, 2)


def test_a_file_is_not_read_to_look_for_a_name_in_it(files, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} may be 2 GB"))
    assert runner.load(files["near"])(CASES[0])["y"][0, 0] == np.float32(1.01)


def test_a_process_that_takes_too_long_is_named(files):
    message = r"^same.onnx did not answer in a fresh process: 2 inputs took more than 0.01 seconds$"
    with pytest.raises(VerificationError, match=message):
        run_fresh(files["same"], CASES, timeout=0.01)


def test_a_process_that_crashes_is_named_with_its_signal(files, tmp_path, monkeypatch):
    (tmp_path / "crash.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "crash.py"))
    with pytest.raises(VerificationError, match=r"^same.onnx does not run in .* process: SIGSEGV$"):
        run_fresh(files["same"], CASES)
