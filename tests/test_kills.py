"""SIGKILL at any moment: the same command goes on and ends as if nothing had been."""

import importlib
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import kerasrnn.models  # noqa: F401  (Keras finds a class only where it has been imported)
from kerasrnn.export import verify_export
from kerasrnn.training.checkpoints import newest_checkpoint
from tests.train_under import TOYS
from tests.workers import environment

pytestmark = pytest.mark.slow
CLOCK = ("seconds", "tokens_per_second")
KILLS = {"lm": 21, "translator": 3, "captioner": 3} | dict.fromkeys(
    TOYS, 3
)  # as many of each kind of moment
SETTINGS = {  # more epochs than so many processes get done before they die
    "lm": ("dropout=0.2", "epochs=30"),
    "translator": ("dropout=0.2", "epochs=8"),
    "captioner": ("dropout=0.2", "epochs=8", "flip=true"),
    **dict.fromkeys(TOYS, ("epochs=80",)),
}


def ran(module: str, *arguments: object, seconds: float = 900) -> str:
    """What a program of ours writes to stdout."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(run) -> list[list[str]]:
    lines = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    told = [place for place, name in enumerate(lines[0]) if name not in CLOCK]
    return [[line[place] for place in told] for line in lines]


def assert_same_weights(one, other):
    a, b = (keras.saving.load_model(path) for path in (one, other))
    both = [[*m.weights, *m.optimizer.variables] for m in (a, b)]
    assert len(both[0]) == len(both[1]) > len(a.weights)
    for x, y in zip(*both, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("task", SETTINGS)
def test_a_run_killed_again_and_again_ends_as_one_never_killed(tmp_path, task):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    if task in TOYS:  # Keras finds its classes then
        importlib.import_module(f"tests.toys.{task}.work")
    ran("tests.train_under", task, whole, *SETTINGS[task])
    argv = ("--every", 0.2, task, parts, *SETTINGS[task])
    kills = json.loads(ran("tests.killed", KILLS[task], 1, "train", parts, *argv).splitlines()[-1])
    assert len(kills) == KILLS[task]
    for kind in ("checkpoint", "epoch"):
        assert any(left for waited, left in kills if waited == kind), kills
    assert not newest_checkpoint(parts).progress.finished
    ran("tests.train_under", *argv)
    assert newest_checkpoint(parts).progress.finished
    assert rows(parts) == rows(whole)
    assert (parts / "samples.txt").read_text() == (whole / "samples.txt").read_text()
    assert sorted(p.name for p in parts.iterdir()) == sorted(p.name for p in whole.iterdir())
    last = [newest_checkpoint(run).folder for run in (whole, parts)]
    assert last[0].name == last[1].name
    assert_same_weights(*(folder / "model.keras" for folder in last))
    assert_same_weights(whole / "model.keras", parts / "model.keras")
    assert newest_checkpoint(whole).states[0].keys() == newest_checkpoint(parts).states[0].keys()
    for name, values in newest_checkpoint(whole).states[0].items():
        for one, other in zip(values, newest_checkpoint(parts).states[0][name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_killed_export_leaves_nothing_and_the_same_command_writes_it(tmp_path):
    run, out = tmp_path / "run", tmp_path / "export"
    ran("tests.train_under", "lm", run, "epochs=1")
    argv = ("export", run, "--format", "onnx", "--out", out)
    kills = json.loads(ran("tests.killed", 4, 2, "export", out, *argv).splitlines()[-1])
    assert [left for _, left in kills] == [[".staging.export"]] * 4
    assert not out.exists()
    ran("kerasrnn.cli", *argv)
    assert {path.name for path in out.iterdir()} == {"model.onnx", "score.onnx"}
    assert not list(tmp_path.glob(".staging.*"))
    verify_export(keras.saving.load_model(run / "model.keras"), out / "model.onnx")
