"""Tasks of somebody's own, outside the package: what a task declares and does is enough."""

import contextlib
import importlib
import io
import json

import numpy as np
import pytest

from kerasrnn.cli.command import main
from kerasrnn.export import load
from kerasrnn.export.forms import answer
from kerasrnn.export.verify import differences
from kerasrnn.tasks import catalog, trust
from kerasrnn.tasks.run_folder import load_model
from tests.test_cli import run
from tests.toys.data import DATA

TOYS = ("labeller", "sums", "waves")
VERB = {"labeller": "label", "sums": "sum", "waves": "wave"}


# What one of them shows in a minute, the others show where there is more time.
PARAMS = [pytest.param(name, marks=[pytest.mark.slow] * (name != TOYS[0])) for name in TOYS]


@pytest.fixture(scope="module", params=PARAMS)
def made(request, tmp_path_factory):
    """(name, folder with a run and its export, the option with its data, a command -> stdout)."""
    name, folder = request.param, tmp_path_factory.mktemp("toys")
    packages = set(trust._packages)

    def toy(*words, code: int = 0) -> str:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main([*map(str, words), "--import", f"tests.toys.{name}"])
        assert found == code, err.getvalue()[-3000:]
        return err.getvalue() if code else out.getvalue()

    data = DATA[name](folder)
    train = ("train", name, *data, "--out", folder / "run")
    toy(*train, "--epochs", 2)
    assert json.loads(toy(*train, "--epochs", 12, "--json"))["epoch"] > 2  # goes on
    options = ("--out", folder / "export", "--quantize", "int8")
    toy("export", folder / "run", "--format", "all", *options)
    yield name, folder, data, toy
    catalog.TASKS.pop(name)
    trust._packages.intersection_update(packages)


def test_all_runtimes_have_the_same_figures(made):
    _, folder, data, toy = made
    figures = json.loads(toy("evaluate", folder / "run", "--json"))
    [(score, value)] = [(n, v) for n, v in figures.items() if n != "perplexity"]
    good = {"accuracy": value > 0.9, "nats": 0.91 < value < 1.5, "spread": 0.2 < value < 2}
    assert good[score], figures
    for file in ("model.onnx", "saved_model"):
        again = toy("evaluate", folder / "export" / file, *data, "--json")
        assert json.loads(again) == pytest.approx(figures, rel=1e-5), file


def test_all_runtimes_answer_alike(made):
    name, folder, _, toy = made
    given = (folder / "given",) if (folder / "given").exists() else ("--length", 9, "--seed", 4)
    models = (folder / "run", folder / "export" / "model.onnx", folder / "export" / "saved_model")
    answers = {toy(VERB[name], model, *given) for model in models}
    assert len(answers) == 1
    [said] = answers
    if name == "labeller":
        assert [line.split("\t")[0] for line in said.splitlines()] == ["vowel", "other"]
    assert len(said.splitlines()) == {"labeller": 2, "sums": 2, "waves": 9}[name]
    file = folder / "answers.jsonl"
    toy(VERB[name], folder / "run", *given, "--out", file)
    assert len(file.read_text().splitlines()) == (1 if name == "waves" else 2)


def test_an_export_is_verified_and_measured(made):
    name, folder, _, toy = made
    said = toy("verify", folder / "run", folder / "export")
    assert said.count("does what") == 2 + (name == "sums")
    assert "model.int8.onnx: quantized" in said


@pytest.mark.slow
def test_a_page_is_made(made):
    name, folder, _, toy = made
    toy("export", folder / "run", "--format", "web", "--out", folder / "page")
    said = json.loads((folder / "page" / "model.json").read_text())
    assert said["task"] == name and said["files"] == ["model.onnx"]
    assert (folder / "page" / "index.html").exists()


def test_random_inputs_are_answered_alike_by_both_runtimes(made):
    name, folder, *_ = made
    importlib.import_module(f"tests.toys.{name}.work")  # Keras finds its classes then
    served, run = load_model(folder / "run").served(), load(folder / "export" / "model.onnx")
    tried = 0
    for seed in range(1, 6):
        random = np.random.default_rng(seed)
        columns = {place.name: place.kind.cases(random) for place in served.takes}
        for row in zip(*columns.values(), strict=True):
            case = dict(zip(columns, row, strict=True))
            assert differences(answer(served, case), run(case)) == [], case
            tried += 1
    assert tried == 40


def test_settings_are_said(made):
    name, *_, toy = made
    names = [line.split()[0] for line in toy("settings", name).splitlines()]
    assert "units" in names and "vocabulary" not in names


def test_what_is_refused(made, tmp_path):
    name, folder, _, toy = made
    if name == "waves":
        line = toy("wave", folder / "run", "--length", 0, code=2)
        assert "--length: expected 1 to 200, got 0; correct it" in line
    elif name == "sums":
        (tmp_path / "given").write_text("left,right\n1,x\n")
        line = toy("sum", folder / "run", tmp_path / "given", code=2)
        assert f"FILE: expected a series as right, got 'x' in line 1 of {tmp_path}/given" in line
        (tmp_path / "given").write_text("left\n1\n")
        line = toy("sum", folder / "run", tmp_path / "given", code=2)
        assert "FILE: expected a column right, got" in line


def test_a_new_run_begins_from_another(made, tmp_path):
    name, folder, data, toy = made
    out = tmp_path / "next"
    start = ("train", name, *data, "--start", folder / "run", "--out", out, "--epochs", 1)
    began = json.loads(toy(*start, "--json"))
    whole = json.loads(toy("evaluate", folder / "run", "--json"))
    again = json.loads(toy("evaluate", out, "--json"))
    assert began["epoch"] == 1 and whole.keys() == again.keys()
    if name == "labeller":  # it knows what the other run had learnt
        assert again["accuracy"] > 0.9


def test_files_that_cannot_be_used(made, tmp_path):
    name, *_, toy = made
    if name != "labeller":
        pytest.skip("it reads lines")
    path = tmp_path / "lines.tsv"
    for content, message in (
        (b"art\tvowel\nb\xff\tother\n", f"{path}:2 (not UTF-8)"),
        (b"art vowel\n", f"{path}:1 (not two columns)"),
        (b"art\tvowel\n", "data: expected an example or more to train on, got 1, of which 1 are"),
    ):
        path.write_bytes(content)
        line = toy("train", name, "--lines", path, "--out", tmp_path / "run", code=2)
        assert message in line and line.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_without_its_package_the_task_is_none(tmp_path):
    path = tmp_path / "lines.tsv"
    done = run("train", "labeller", "--lines", path, "--out", tmp_path / "run", code=2)
    assert done.stderr.startswith("kerasrnn: TASK: expected one of lm, translator, captioner, got ")
    done = run("label", tmp_path, code=2)
    assert done.stderr.startswith("kerasrnn: COMMAND: expected one of demo, train, ")
