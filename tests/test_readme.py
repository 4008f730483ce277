"""What the README shows runs as it stands there."""

import re
import subprocess
import sys

import pytest

import kerasrnn
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_an_example_stands_before_line_30():
    before = "\n".join(README.splitlines()[:30])
    assert BLOCKS[0] in before


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCKS)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The import statement " in done.stdout
    assert "model.onnx" in done.stdout and "(2, 5, 8) replay: " in done.stdout


def test_every_path_in_the_code_map_exists():
    table = README.split("## Where things are")[1].split("##")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([\w/.]+)`", cell)]
    assert len(names) > 15
    for name in names:
        if not name.startswith("kerasrnn."):
            assert (ROOT / name).exists() or (ROOT / "kerasrnn" / name).exists(), name


@pytest.mark.parametrize("name", kerasrnn.__all__)
def test_public_names_load(name):
    assert getattr(kerasrnn, name).__name__.split(".")[-1] == name


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'LanguageModle'"):
        _ = kerasrnn.LanguageModle
