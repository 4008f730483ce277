"""Some hundreds of the random inputs of benchmarks/fuzz.py, which must be answered alike."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

MODELS = ["translator char", "translator word", "translator subword"]
MODELS += ["lm char", "lm word", "lm subword", "captioner"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_runtime_answers_alike(model):
    command = [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--inputs", "300", "--seed", "1"]
    done = subprocess.run([*command, "--models", model], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [line.strip() for line in done.stdout.splitlines()]
    assert rows[0] == model and int(rows[1]) >= 30 and rows[3:5] == ["0", "0"]
