"""An artifact against the model it came from, in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from kerasrnn.export import runner

Case = dict[str, np.ndarray]
TOLERANCE = 1e-4  # of scores, which are sums of float32 log-probabilities

SHOWN = 100  # numbers or strings of an input, at most


class VerificationError(RuntimeError):
    """The artifact does not do what the model does; it was not written."""


def run_fresh(artifact: Path, cases: list[Case], timeout: float = 600) -> list[Case]:
    """Answer `cases` by the artifact in a new process that imports nothing of ours.

    Raises:
        VerificationError: when that process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        runner.write_cases(inputs, cases)
        command = [sys.executable, runner.__file__, str(artifact), str(inputs), str(outputs)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-3:])
            raise VerificationError(f"{artifact.name} does not run in a fresh process: {tail}")
        return runner.read_cases(outputs)


def differences(expected: Case, got: Case, tolerance: float = TOLERANCE) -> list[str]:
    """What differs between two answers, in words; nothing when they are the same."""
    found = [f"output {name} is missing" for name in expected if name not in got]
    for name in expected.keys() & got.keys():
        a, b = expected[name], got[name]
        if a.shape != b.shape:
            found.append(f"{name} has shape {list(b.shape)}, not {list(a.shape)}")
        elif a.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # -inf, where there is no translation, is -inf
                same = (a == b) | (np.isnan(a) & np.isnan(b))
                off = np.where(same, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(a)))
            worst = float(np.max(off, initial=0.0))
            if not worst <= tolerance:
                found.append(f"{name} is off by {worst:.2g}")
        elif not np.array_equal(a, b):
            at = tuple(np.argwhere(a != b)[0].tolist())
            found.append(f"{name}{list(at)} is {b[at]!r}, not {a[at]!r}")
    return found


def unlike(expected: Case, got: Case) -> list[str]:
    """What differs in names, dtypes and ranks, in words; the values may."""
    kinds = [
        {name: f"{v.dtype} of rank {v.ndim}" for name, v in case.items()}
        for case in (expected, got)
    ]
    names = sorted(expected.keys() | got.keys())
    a, b = ([kind.get(name, "missing") for name in names] for kind in kinds)
    return [f"{n} is {y}, not {x}" for n, x, y in zip(names, a, b, strict=True) if x != y]


def verify(
    artifact: Path, cases: list[Case], expected: list[Case], tolerance: float = TOLERANCE
) -> None:
    """Compare the artifact's answers with the model's.

    Raises:
        VerificationError: naming the first case that differs, with its inputs.
    """
    for case, right, got in zip(cases, expected, run_fresh(artifact, cases), strict=True):
        found = differences(right, got, tolerance)
        if found:
            shown = {name: _shown(value) for name, value in case.items()}
            raise VerificationError(f"{artifact.name}: {'; '.join(found)}; the inputs were {shown}")


def _shown(value: np.ndarray):
    return value.tolist() if value.size <= SHOWN else f"{value.dtype} {list(value.shape)}"


def agreeing(artifact: Path, cases: list[Case], expected: list[Case]) -> int:
    """In how many cases a quantized artifact writes what the model does; its scores may differ.

    Raises:
        VerificationError: when it does not run, or its outputs have other names, dtypes or ranks.
    """
    count = 0
    for right, got in zip(expected, run_fresh(artifact, cases), strict=True):
        found = unlike(right, got)
        if found:
            raise VerificationError(f"{artifact.name}: {'; '.join(found)}")
        count += not differences(right, got, np.inf)
    return count
