"""What CONTRIBUTING.md shows is what the tests run."""

import re
import subprocess

import pytest

from tests.conftest import ROOT
from tests.test_cli import run

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_task_that_it_shows_is_the_toy():
    shown = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    files = [ROOT / "tests" / "toys" / "labeller" / f"{n}.py" for n in ("model", "task", "work")]
    assert shown == [file.read_text(encoding="utf-8") for file in files]


def test_every_path_that_it_names_exists():
    for name in re.findall(r"`((?:kerasrnn|tests|export|pipelines)/[\w/.]+)`", TEXT):
        if "my_cell" not in name:
            assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_its_commands_run_on_a_copy_outside(tmp_path, monkeypatch):
    package = tmp_path / "my_package" / "labeller"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    shown = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    for name, code in zip(("model", "task", "work"), shown, strict=True):
        (package / f"{name}.py").write_text(code.replace("tests.toys", "my_package"))
    [lines] = [line for line in TEXT.splitlines() if line.startswith("printf")]
    subprocess.run(["bash", "-c", lines], cwd=tmp_path, check=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    commands = [line.split()[1:] for line in TEXT.splitlines() if line.startswith("kerasrnn ")]
    assert [words[0] for words in commands] == [
        *("train", "evaluate", "export", "evaluate", "settings"),
    ]
    figures = [run(*words, cwd=tmp_path).stdout for words in commands]
    assert figures[1] == figures[3] and figures[1].startswith("accuracy 1")
    said = run("label", "run", "--import", "my_package.labeller", cwd=tmp_path, input="orange\n")
    assert said.stdout.startswith(("vowel\t", "other\t"))
