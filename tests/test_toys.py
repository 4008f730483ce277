"""A task of somebody's own, outside the package: what a task declares and does is enough."""

import itertools
import json

import pytest

from tests.test_cli import run

IMPORT = ("--import", "tests.toys.labeller")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Lines whose label is whether they begin with a vowel."""
    words = ["".join(w) for w in itertools.product("aeiobcdf", "aeib", "rst")]
    path = tmp_path_factory.mktemp("toys") / "lines.tsv"
    path.write_text("".join(f"{w}\t{'vowel' if w[0] in 'aeio' else 'other'}\n" for w in words))
    return path


def test_a_task_of_ones_own_trains_answers_and_is_measured(lines, tmp_path):
    out = tmp_path / "run"
    command = ("train", "labeller", "--lines", lines, "--out", out, *IMPORT)
    done = run(*command, "--epochs", 2)
    assert "96 lines; 2 labels" in done.stderr and "--- after epoch 2" in done.stderr
    done = run(*command, "--epochs", 12, "--json")  # goes on
    assert json.loads(done.stdout)["epoch"] > 2
    figures = json.loads(run("evaluate", out, *IMPORT, "--json").stdout)
    assert figures["accuracy"] > 0.9
    (tmp_path / "words.txt").write_text("art\ncat\n")
    done = run("label", out, tmp_path / "words.txt", "--out", tmp_path / "found.csv", *IMPORT)
    assert done.stdout == ""
    assert (tmp_path / "found.csv").read_text() == "text,label\nart,vowel\ncat,other\n"
    assert run("settings", "labeller", *IMPORT).stdout.startswith("vocabulary")


def test_without_its_package_the_task_is_none(lines, tmp_path):
    done = run("train", "labeller", "--lines", lines, "--out", tmp_path / "run", code=2)
    assert done.stderr.startswith("kerasrnn: TASK: expected one of lm, translator, captioner, got ")
    done = run("label", tmp_path, code=2)
    assert done.stderr.startswith("kerasrnn: COMMAND: expected one of demo, train, ")
