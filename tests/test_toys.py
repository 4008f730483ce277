"""Tasks of somebody's own, outside the package: what a task declares and does is enough."""

import itertools
import json
import math

import pytest

from tests.test_cli import run

TOYS = ("labeller", "sums", "waves")
VERB = {"labeller": "label", "sums": "sum", "waves": "wave"}


def words(folder):
    """Lines whose label is whether they begin with a vowel."""
    made = ["".join(w) for w in itertools.product("aeiobcdf", "aeib", "rst")]
    path = folder / "lines.tsv"
    path.write_text("".join(f"{w}\t{'vowel' if w[0] in 'aeio' else 'other'}\n" for w in made))
    (folder / "given").write_text("art\ncat\n")
    return ("--lines", path)


def table(folder):
    """A number that is made of two others and of the one before."""
    path, value, lines = folder / "table.csv", 0.0, ["left,right,value"]
    for t in range(400):
        left, right = math.sin(t), math.cos(0.7 * t)
        value = 0.5 * value + left - right
        lines.append(f"{left:.4f},{right:.4f},{value:.4f}")
    path.write_text("\n".join(lines))
    (folder / "given").write_text("left,right\n0.1 0.2 0.3,0.3 0.2 0.1\n1,0.5\n")
    return ("--table", path)


def numbers(folder):
    """A wave."""
    path = folder / "numbers.txt"
    path.write_text("\n".join(f"{math.sin(t / 3):.4f}" for t in range(300)))
    return ("--numbers", path)


DATA = {"labeller": words, "sums": table, "waves": numbers}


def toy(name: str, *words, code: int = 0):
    return run(*words, "--import", f"tests.toys.{name}", code=code)


@pytest.fixture(scope="module", params=TOYS)
def made(request, tmp_path_factory):
    """(name, folder with a run and its export, the option with its data)."""
    name, folder = request.param, tmp_path_factory.mktemp("toys")
    data = DATA[name](folder)
    train = ("train", name, *data, "--out", folder / "run")
    done = toy(name, *train, "--epochs", 2)
    assert "--- after epoch 2" in done.stderr
    assert json.loads(toy(name, *train, "--epochs", 12, "--json").stdout)["epoch"] > 2  # goes on
    options = ("--out", folder / "export", "--quantize", "int8")
    toy(name, "export", folder / "run", "--format", "all", *options)
    return name, folder, data


def test_all_runtimes_have_the_same_figures(made):
    name, folder, data = made
    figures = json.loads(toy(name, "evaluate", folder / "run", "--json").stdout)
    [(score, value)] = [(n, v) for n, v in figures.items() if n != "perplexity"]
    good = {"accuracy": value > 0.9, "nats": 0.91 < value < 1.5, "spread": 0.2 < value < 2}
    assert good[score], figures
    for file in ("model.onnx", "saved_model"):
        again = toy(name, "evaluate", folder / "export" / file, *data, "--json").stdout
        assert json.loads(again) == pytest.approx(figures, rel=1e-5), file


def test_all_runtimes_answer_alike(made):
    name, folder, _ = made
    given = (folder / "given",) if (folder / "given").exists() else ("--length", 9, "--seed", 4)
    models = (folder / "run", folder / "export" / "model.onnx", folder / "export" / "saved_model")
    answers = {toy(name, VERB[name], model, *given).stdout for model in models}
    assert len(answers) == 1
    [said] = answers
    if name == "labeller":
        assert [line.split("\t")[0] for line in said.splitlines()] == ["vowel", "other"]
    assert len(said.splitlines()) == {"labeller": 2, "sums": 2, "waves": 9}[name]
    file = folder / "answers.jsonl"
    toy(name, VERB[name], folder / "run", *given, "--out", file)
    assert len(file.read_text().splitlines()) == (1 if name == "waves" else 2)


def test_an_export_is_verified_and_measured(made):
    name, folder, _ = made
    said = toy(name, "verify", folder / "run", folder / "export").stdout
    assert said.count("does what") == 2 + (name == "sums")
    assert "model.int8.onnx: quantized" in said


@pytest.mark.slow
def test_a_page_is_made(made):
    name, folder, _ = made
    toy(name, "export", folder / "run", "--format", "web", "--out", folder / "page")
    said = json.loads((folder / "page" / "model.json").read_text())
    assert said["task"] == name and said["files"] == ["model.onnx"]
    assert (folder / "page" / "index.html").exists()


def test_settings_are_said(made):
    name, *_ = made
    names = [line.split()[0] for line in toy(name, "settings", name).stdout.splitlines()]
    assert "units" in names and "vocabulary" not in names


def test_what_is_refused(made, tmp_path):
    name, folder, _ = made
    if name == "waves":
        line = toy(name, "wave", folder / "run", "--length", 0, code=2).stderr
        assert "--length: expected 1 to 200, got 0; correct it" in line
    elif name == "sums":
        (tmp_path / "given").write_text("left,right\n1,x\n")
        line = toy(name, "sum", folder / "run", tmp_path / "given", code=2).stderr
        assert f"FILE: expected a series as right, got 'x' in line 1 of {tmp_path}/given" in line
        (tmp_path / "given").write_text("left\n1\n")
        line = toy(name, "sum", folder / "run", tmp_path / "given", code=2).stderr
        assert "FILE: expected a column right, got" in line


def test_without_its_package_the_task_is_none(tmp_path):
    path = tmp_path / "lines.tsv"
    done = run("train", "labeller", "--lines", path, "--out", tmp_path / "run", code=2)
    assert done.stderr.startswith("kerasrnn: TASK: expected one of lm, translator, captioner, got ")
    done = run("label", tmp_path, code=2)
    assert done.stderr.startswith("kerasrnn: COMMAND: expected one of demo, train, ")
