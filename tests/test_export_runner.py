"""Cases cross from process to process without a pickle."""

import numpy as np
import pytest

from kerasrnn.export import runner
from tests.conftest import ROOT

CASES = [
    {"text": np.array([["é\0b", ""], ["\ud800", "z"]], object), "n": np.array(3, np.int32)},
    {},
    {"bytes": np.array([b"\xff\0", "mixed"], object), "none": np.empty((2, 0), object)},
    {"text": np.array("scalar", object), "p": np.arange(6, dtype=np.float32).reshape(2, 3)},
]


def test_cases_come_back_as_they_were(tmp_path):
    path = tmp_path / "cases.npz"
    runner.write_cases(path, CASES)
    with np.load(path) as arrays:  # NumPy refuses pickles unless it is told otherwise
        assert not any(arrays[name].dtype.hasobject for name in arrays.files)
    found = runner.read_cases(path)
    assert [list(case) for case in found] == [list(case) for case in CASES]
    for case, expected in zip(found, CASES, strict=True):
        for name, value in expected.items():
            assert case[name].dtype == value.dtype and case[name].shape == value.shape
            assert case[name].tolist() == value.tolist()


def test_a_pickle_among_the_answers_is_refused(tmp_path):
    np.savez(tmp_path / "cases.npz", **{"cases": 1, "0/text": np.array(["a"], object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        runner.read_cases(tmp_path / "cases.npz")


def test_nothing_that_is_installed_reads_pickles():
    for folder in ("kerasrnn", "pipelines", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "allow_pickle=True" not in text and "import pickle" not in text, path
