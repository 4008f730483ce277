"""An artifact against the model it came from, in a fresh process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasrnn.export import runner

Case = dict[str, np.ndarray]
TOLERANCE = 1e-4  # of scores, which are sums of float32 log-probabilities
ROUNDED = {"fp16": 0.005, "int8": 0.1}  # of a quantized file's floats, as a share of the largest

SHOWN = 100  # numbers or strings of an input, at most


class VerificationError(RuntimeError):
    """The artifact does not do what the model does; it was not written."""


def run_fresh(artifact: Path, cases: list[Case], timeout: float = 600) -> list[Case]:
    """Answer `cases` by the artifact in a new process that imports nothing of ours.

    Raises:
        VerificationError: when that process fails, or takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        runner.write_cases(inputs, cases)
        command = [sys.executable, runner.__file__, str(artifact), str(inputs), str(outputs)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise VerificationError(
                f"{artifact.name} did not answer in a fresh process: {len(cases)} inputs took more "
                f"than {timeout:g} seconds"
            ) from error
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-3:])
            if done.returncode < 0:  # the runtime crashed, without a word
                tail = f"{signal.Signals(-done.returncode).name} {tail}".strip()
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


class Agreement(NamedTuple):
    """A quantized artifact beside the model.

    Attributes:
        same: in how many cases it gives the same.
        cases: of how many.
        off: where all outputs are floats, the largest difference of all, as a share of the largest
            value of that output in that case; None of what writes ids or text.
    """

    same: int
    cases: int
    off: float | None = None


def agreeing(artifact: Path, cases: list[Case], expected: list[Case], kind: str) -> Agreement:
    """In how many cases a quantized artifact gives what the model does.

    Ids and texts are the same or they are not, and then the floats beside them do not count. Where
    all outputs are floats, each is the same within `ROUNDED` of its largest value.

    Args:
        kind: "int8" or "fp16".

    Raises:
        VerificationError: when it does not run, or its outputs have other names, dtypes or ranks.
    """
    count, shares = 0, []
    for right, got in zip(expected, run_fresh(artifact, cases), strict=True):
        found = unlike(right, got)
        if found:
            raise VerificationError(f"{artifact.name}: {'; '.join(found)}")
        written = {name: value for name, value in right.items() if value.dtype.kind != "f"}
        if written:
            count += not differences(written, got)
        else:
            shares.append(max(_share(value, got[name]) for name, value in right.items()))
            count += shares[-1] <= ROUNDED[kind]
    return Agreement(count, len(cases), max(shares, default=None))


def _share(right: np.ndarray, got: np.ndarray) -> float:
    """The largest difference as a share of the largest value; infinite where shapes differ, or one
    is finite where the other is not."""
    finite = np.isfinite(right)
    if right.shape != got.shape or not np.isfinite(got[finite]).all():
        return np.inf
    if not np.array_equal(right[~finite], got[~finite], equal_nan=True):
        return np.inf
    largest = np.max(np.abs(right), where=finite, initial=np.finfo(np.float32).tiny)
    return float(np.max(np.abs(right - got), where=finite, initial=0.0) / largest)
