"""Compares an artifact, run in a fresh process, with the model that it came from."""

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
ROUNDED = {"fp16": 0.005, "int8": 0.1}  # tolerance of a quantized file, as a share of the largest

SHOWN = 100  # largest input, in numbers or strings, that an error prints


class VerificationError(RuntimeError):
    """An artifact's answers differ from the model's, or it does not run; it was not written."""


def run_fresh(artifact: Path, cases: list[Case], timeout: float | None = 600) -> list[Case]:
    """Answer `cases` with the artifact in a new process that imports nothing of kerasrnn.

    Raises:
        VerificationError: when that process fails, or takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "inputs.npz"), Path(folder, "outputs.npz")
        runner.write_cases(inputs, cases)
        command = [sys.executable, runner.__file__, str(artifact), str(inputs), str(outputs)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise VerificationError(
                f"{artifact.name} did not answer in a fresh process: {len(cases)} inputs took more "
                f"than {timeout:g} seconds"
            ) from error
        if process.returncode:
            tail = "\n".join(process.stderr.strip().splitlines()[-3:])
            if process.returncode < 0:  # a signal ended it: stderr may be empty
                tail = f"{signal.Signals(-process.returncode).name} {tail}".strip()
            raise VerificationError(f"{artifact.name} does not run in a fresh process: {tail}")
        return runner.read_cases(outputs)


def differences(expected: Case, got: Case, tolerance: float = TOLERANCE) -> list[str]:
    """The differences between two answers, in words; none when they are equal."""
    faults = [f"output {name} is missing" for name in expected if name not in got]
    for name in expected.keys() & got.keys():
        a, b = expected[name], got[name]
        if a.shape != b.shape:
            faults.append(f"{name} has shape {list(b.shape)}, not {list(a.shape)}")
        elif a.dtype.kind == "f":
            with np.errstate(
                invalid="ignore"
            ):  # -inf - -inf is NaN; a missing translation scores -inf
                same = (a == b) | (np.isnan(a) & np.isnan(b))
                off = np.where(same, 0.0, np.abs(a - b) / np.maximum(1.0, np.abs(a)))
            worst = float(np.max(off, initial=0.0))
            if not worst <= tolerance:
                faults.append(f"{name} is off by {worst:.2g}")
        elif not np.array_equal(a, b):
            place = tuple(np.argwhere(a != b)[0].tolist())
            faults.append(f"{name}{list(place)} is {b[place]!r}, not {a[place]!r}")
    return faults


def unlike(expected: Case, got: Case) -> list[str]:
    """The differences in names, dtypes and ranks, in words; values may differ."""
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
        VerificationError: about the first case that differs, with its inputs.
    """
    for case, right, got in zip(cases, expected, run_fresh(artifact, cases), strict=True):
        faults = differences(right, got, tolerance)
        if faults:
            shown = {name: _shown(value) for name, value in case.items()}
            raise VerificationError(
                f"{artifact.name}: {'; '.join(faults)}; the inputs were {shown}"
            )


def _shown(value: np.ndarray):
    """A value for an error message; of a large one its dtype and shape."""
    return value.tolist() if value.size <= SHOWN else f"{value.dtype} {list(value.shape)}"


class Agreement(NamedTuple):
    """The agreement of a quantized artifact with the model.

    Attributes:
        same: number of cases with the same answer.
        cases: number of all cases.
        off: the largest difference, as a share of the largest value of its output in its case,
            when all outputs are floats; None when there are ids or text.
    """

    same: int
    cases: int
    off: float | None = None


def count_agreeing(artifact: Path, cases: list[Case], expected: list[Case], kind: str) -> Agreement:
    """Count the cases in which a quantized artifact gives the model's answer.

    Where there are ids or text, these must be equal, and the floats beside them do not count. Where
    all outputs are floats, each must be within `ROUNDED` of its largest value.

    Args:
        kind: "int8" or "fp16".

    Raises:
        VerificationError: when the artifact does not run, or its outputs have other names, dtypes
            or ranks.
    """
    count, shares = 0, []
    for right, got in zip(expected, run_fresh(artifact, cases), strict=True):
        faults = unlike(right, got)
        if faults:
            raise VerificationError(f"{artifact.name}: {'; '.join(faults)}")
        exact = {name: value for name, value in right.items() if value.dtype.kind != "f"}
        if exact:
            count += not differences(exact, got)
        else:
            shares.append(max(_share(value, got[name]) for name, value in right.items()))
            count += shares[-1] <= ROUNDED[kind]
    return Agreement(count, len(cases), max(shares, default=None))


def _share(right: np.ndarray, got: np.ndarray) -> float:
    """The largest difference as a share of the largest value.

    Infinite where shapes differ, or where only one of the two is finite.
    """
    finite = np.isfinite(right)
    if right.shape != got.shape or not np.isfinite(got[finite]).all():
        return np.inf
    if not np.array_equal(right[~finite], got[~finite], equal_nan=True):
        return np.inf
    largest = np.max(np.abs(right), where=finite, initial=np.finfo(np.float32).tiny)
    return float(np.max(np.abs(right - got), where=finite, initial=0.0) / largest)
