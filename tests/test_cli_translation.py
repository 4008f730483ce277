"""`train translator`, `translate`, `evaluate` and `export` as a user has them."""

import contextlib
import gzip
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from kerasrnn.engine.recurrence import Plan
from kerasrnn.pipelines.dates import write_dates
from tests.test_cli import call, refused

# As awkward as lines get; what stands before and behind is dates.
LINES = [
    "",
    "5. Mai 2026",
    "",
    "  ",
    "日本 \U0001f989",
    "12/11/1999",
    "x" * 60,
    "le 1 avril 2001",
    "",
]
TRAIN = ["--level", "char", "--preset", "tiny", "--epochs", "6", "--batch-size", "10"]
SET = ["--set", "vocabulary=99", "units=16", "embedding=8", "beam=2", "learning_rate=0.02"]
SET += ["--set", "max_tokens=40", "best_by=bleu"]


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Every recurrence as the plain loop: these tests are not about its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerasrnn.engine.recurrence._choose", lambda *_: Plan("loop", "a test"))
        yield


def files(dates) -> list:
    names = ("source", "target", "valid-source", "valid-target")
    return [part for pair in zip((f"--{n}" for n in names), dates, strict=True) for part in pair]


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    return write_dates(tmp_path_factory.mktemp("dates"), train=300, valid=25)


@pytest.fixture(scope="module")
def folder(dates, tmp_path_factory):
    """A run on dates, its ONNX file, and lines to translate."""
    from kerasrnn.cli import command as cli

    folder = tmp_path_factory.mktemp("cli")
    command = ["train", "translator", *files(dates), "--out", folder / "run", *TRAIN, *SET]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert cli.main([*map(str, command), "--json"]) == 0
    options = ["--beam", "3", "--n-best", "2", "--max-length", "12", "--format", "onnx"]
    command = ["export", folder / "run", "--out", folder / "export", *options]
    assert cli.main([str(part) for part in command]) == 0
    sources = dates.valid_source.read_text().splitlines()
    text = "\n".join(sources + LINES) + "\n"
    (folder / "lines.txt").write_text(text)
    (folder / "lines.txt.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def translated(capsys, *arguments) -> list[str]:
    code, out, _ = call(capsys, "translate", *arguments)
    assert code == 0
    return out.split("\n")[:-1]


def test_train_prints_the_best_epoch(dates, folder, capsys):
    best, err = json.loads((folder / "out").read_text()), (folder / "err").read_text()
    assert best["run"] == str(folder / "run") and 1 <= best["epoch"] <= 6
    assert 0 <= best["val_bleu"] <= 100 and best["val_nats"] > 0
    pairs = r"^300 pairs, [\d,]+ source tokens .*; \d+ and \d+ ids"
    small = r"; the vocabulary is smaller than the 99 asked for: the text has \d+ and \d+$"
    assert re.search(pairs + small, err, re.M)
    assert err.count("--- after epoch") == 6
    settings = json.loads((folder / "run" / "config.json").read_text())["settings"]
    assert (settings["units"], settings["max_tokens"], settings["epochs"]) == (16, 40, 6)
    command = ("train", "translator", *files(dates), "--out", folder / "run", *TRAIN, *SET)
    assert refused(capsys, *command).endswith(
        "is finished after 6; raise --epochs, or use --overwrite"
    )


def test_a_line_in_a_line_out(folder, capsys, monkeypatch):
    found = translated(capsys, folder / "run", folder / "lines.txt")
    sources = (folder / "lines.txt").read_text().split("\n")[:-1]
    assert len(found) == len(sources) == 25 + len(LINES)
    empty = [i for i, source in enumerate(sources) if not source]
    assert [found[i] for i in empty] == [""] * 3
    assert len(set(found)) > 3, "too alike to show an order"
    assert translated(capsys, folder / "run", folder / "lines.txt.gz") == found
    piped = io.TextIOWrapper(io.BytesIO((folder / "lines.txt").read_bytes()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert translated(capsys, folder / "run") == found
    # Each line by itself, the last one without an end.
    for i in (0, 26, 30, 32):
        one = io.TextIOWrapper(io.BytesIO(sources[i].encode()))
        monkeypatch.setattr(sys, "stdin", one)
        assert translated(capsys, folder / "run") == [found[i]]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_faulty_line_of_the_validation_files_is_named(dates, side, tmp_path, capsys):
    lines = getattr(dates, f"valid_{side}").read_text().splitlines()
    (tmp_path / side).write_text("\n".join(["", *lines[1:], ""]))
    paths = dates._replace(**{f"valid_{side}": tmp_path / side})
    command = ("train", "translator", *files(paths), "--out", tmp_path / "run", *TRAIN)
    assert refused(capsys, *command) == (
        f"kerasrnn: --valid-{side}: expected text in every line, got "
        f"{tmp_path / side}:1 (empty); mend them, or drop them with --drop-faulty"
    )
    assert not (tmp_path / "run").exists()


def test_one_side_of_two_is_no_tsv_file(folder, dates, tmp_path, capsys):
    (tmp_path / "two.de").write_text("1\n2\n")
    listed = f"got 2 faulty lines: {tmp_path}/two.de:1 (not two columns), {tmp_path}/two.de:2 "
    line = refused(capsys, "evaluate", folder / "run", "--source", tmp_path / "two.de")
    assert line == (
        "kerasrnn: --source: expected two columns, a tab between them, in every line, "
        f"{listed}(not two columns); give them with --target, or mend them"
    )
    (tmp_path / "three.tsv").write_text("1\t2\n" * 3)
    names = ("--source", tmp_path / "three.tsv", "--valid-source", tmp_path / "two.de")
    command = ("train", "translator", *names, "--out", tmp_path / "run")
    assert refused(capsys, *command, *TRAIN) == (
        "kerasrnn: --valid-source: expected two columns, a tab between them, in every line, "
        f"{listed}(not two columns); give --valid-target, or mend them, or drop them with "
        "--drop-faulty"
    )


def test_n_best_and_json(folder, tmp_path, capsys):
    options = ("--beam", 4, "--n-best", 3, "--max-length", 11)
    rows = [
        line.split("\t")
        for line in translated(capsys, folder / "run", folder / "lines.txt", *options)
    ]
    assert {len(row) for row in rows} == {3}
    assert any(len(set(row)) == 3 for row in rows)
    found = translated(capsys, folder / "run", folder / "lines.txt", *options, "--json")
    assert [json.loads(line)["text"] for line in found] == rows
    for line, row in zip(found, rows, strict=True):
        score = json.loads(line, parse_constant=lambda name: pytest.fail(name))["score"]
        assert score == sorted(score, reverse=True) if row[0] else score == [0, None, None]
    assert (
        translated(
            capsys,
            folder / "run",
            folder / "lines.txt",
            *options,
            "--out",
            tmp_path / "found.jsonl",
        )
        == []
    )
    assert (tmp_path / "found.jsonl").read_text(encoding="utf-8").splitlines() == found
    best = translated(capsys, folder / "run", folder / "lines.txt", "--beam", 4, "--max-length", 11)
    assert best == [row[0] for row in rows]
    alone = translated(capsys, folder / "run", folder / "lines.txt", "--json")
    assert isinstance(json.loads(alone[0])["text"], str)
    assert isinstance(json.loads(alone[0])["score"], float)
    short = translated(capsys, folder / "run", folder / "lines.txt", "--max-length", 3)
    assert max(map(len, short)) == 3 < max(len(row[0]) for row in rows)


def test_an_onnx_file_translates_alike(folder, capsys):
    search = ("--beam", 3, "--max-length", 12)
    wanted = translated(capsys, folder / "run", folder / "lines.txt", "--n-best", 2, *search)
    file = folder / "export" / "model.onnx"
    assert translated(capsys, file, folder / "lines.txt", "--n-best", 2) == wanted
    assert translated(capsys, file, folder / "lines.txt") == [w.split("\t")[0] for w in wanted]


def test_attention_is_drawn_for_every_line(folder, tmp_path, capsys):
    lines = tmp_path / "two.txt"
    lines.write_text("Samstag, 5. Mai 2026\n1/2/1999\n\n")
    translated(capsys, folder / "run", lines, "--attention", tmp_path / "map.png")
    names = ["map-2.png", "map-3.png", "map.png"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == names
    sizes = []
    for name in names[::-2]:
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        blue = (pixels[..., 2] - pixels[..., 0]) > 30  # the map's own colour
        assert blue.mean() > 0.01 and (pixels.sum(axis=2) < 200).mean() > 0.002
        sizes.append(pixels.shape[1])
    assert sizes[0] > sizes[1], "twenty characters are wider than eight"


def test_evaluate(folder, dates, capsys):
    code, out, _ = call(capsys, "evaluate", folder / "run", "--json")
    figures = json.loads(out)
    names = ("bleu", "bleu_lowercase", "chrf")
    wanted = {
        "exact",
        "nats",
        "perplexity",
        "lines",
        *names,
        *(f"{name}_signature" for name in names),
    }
    assert code == 0 and set(figures) == wanted
    assert re.fullmatch(
        r"nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:[\d.]+",
        figures["bleu_signature"],
    )
    assert "case:lc" in figures["bleu_lowercase_signature"]
    assert figures["chrf_signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert figures["perplexity"] == pytest.approx(np.exp(figures["nats"]), rel=1e-4)
    named = ("--source", dates.valid_source, "--target", dates.valid_target)
    again = json.loads(call(capsys, "evaluate", folder / "run", "--json", *named)[1])
    assert again == figures
    train = ("--source", dates.train_source, "--target", dates.train_target)
    code, out, _ = call(capsys, "evaluate", folder / "run", *train)
    assert code == 0 and out.startswith("exact 0") and "bleu_signature nrefs:1" in out


# --- what is refused ---


def test_options_of_an_exported_file(folder, capsys):
    file = folder / "export" / "model.onnx"
    for option in ("--beam", "--max-length"):
        assert refused(capsys, "translate", file, folder / "lines.txt", option, 2) == (
            f"kerasrnn: {option}: expected a run folder beside it, an exported search being fixed, "
            f"got {file}; export again with {option}"
        )
    assert refused(capsys, "translate", file, folder / "lines.txt", "--n-best", 3) == (
        "kerasrnn: --n-best: expected at most 2, as exported, got 3; export again"
    )


def test_searches_that_cannot_be(folder, capsys):
    run, lines = folder / "run", folder / "lines.txt"
    for options, message in (
        (("--beam", 0), "--beam: expected a whole number of 1 or more, got 0; change it"),
        (
            ("--n-best", 5),
            "--n-best: expected at most the beam, got 5 with a beam of 2; widen the beam",
        ),
        (("--max-length", 0), "--max-length: expected 1 or more, got 0; raise it"),
        (("--n-best", 0), "--n-best: expected a whole number of 1 or more, got 0; change it"),
    ):
        assert refused(capsys, "translate", run, lines, *options) == f"kerasrnn: {message}"


def test_text_that_cannot_be_read(folder, tmp_path, capsys):
    run = folder / "run"
    assert refused(capsys, "translate", run, tmp_path / "none.txt") == (
        f"kerasrnn: FILE: expected a file that can be read, got {tmp_path}/none.txt "
        "(No such file or directory); check it"
    )
    (tmp_path / "latin.txt").write_bytes("5. Mai\nmärz\n".encode("latin-1"))
    code, _, err = call(capsys, "translate", run, tmp_path / "latin.txt")
    assert code == 2
    assert (
        f"FILE: expected UTF-8, got line 2 of {tmp_path}/latin.txt (invalid continuation byte"
        in err
    )


def test_settings_that_are_none(dates, tmp_path, capsys):
    def train(*options):
        command = ("train", "translator", *files(dates), "--out", tmp_path / "run", *options)
        return refused(capsys, *command)

    assert re.fullmatch(
        r"kerasrnn: --set: expected name=value with a name of batch_size, epochs, optimizer, .*, "
        r"got window=3; correct it",
        train("--set", "window=3"),
    )
    assert train("--set", "units=few") == (
        "kerasrnn: --set units: expected a whole number, got few; correct it"
    )
    assert train("--preset", "shakespeare") == (
        "kerasrnn: --preset: expected one of tiny, small, multi30k, got shakespeare; "
        "choose one of them"
    )
    assert train("--level", "char", "--set", "encoder=gnmt") == (
        "kerasrnn: --encoder-layers: expected 2 or more with encoder=gnmt, got 1; raise it"
    )
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_match(dates, tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text("".join(dates.train_target.read_text().splitlines(keepends=True)[:-3]))
    out = ("--out", tmp_path / "run", "--level", "char")
    pair = ("--source", dates.train_source, "--target", short)
    assert refused(capsys, "train", "translator", *pair, *out) == (
        f"kerasrnn: --target: expected as many lines as the source (300 in {dates.train_source}), "
        f"got 297 in {short}; align the files line by line"
    )
    gaps = tmp_path / "gaps.txt"
    lines = dates.train_target.read_text().splitlines()
    gaps.write_text("\n".join([*lines[:4], "", *lines[5:]]) + "\n")
    pair = ("--source", dates.train_source, "--target", gaps)
    assert refused(capsys, "train", "translator", *pair, *out).startswith(
        f"kerasrnn: --target: expected text in every line, got {gaps}:5 (empty); "
    )
    assert "a tab between them" in refused(
        capsys, "train", "translator", "--source", dates.train_source, *out
    )
    assert not (tmp_path / "run").exists()


def test_commands_for_the_other_task(folder, capsys):
    run = folder / "run"
    assert refused(capsys, "evaluate", run, "--text", "a.txt") == (
        "kerasrnn: --text: expected --source and --target for a translator, got a.txt; "
        "give --source and --target"
    )
    for model in (run, folder / "export" / "model.onnx"):
        line = refused(capsys, "generate", model)
        assert "expected a language model, got" in line
        assert line.endswith("; use `kerasrnn translate`")


def test_a_language_model_does_not_translate(folder, tmp_path, capsys, monkeypatch):
    def load(path):
        def run(given):
            raise AssertionError("it must not be asked")

        run.metadata = {"task": "lm"}
        return run

    monkeypatch.setattr("kerasrnn.tasks.opening.load", load)
    (tmp_path / "lm.onnx").touch()
    assert refused(capsys, "translate", tmp_path / "lm.onnx", folder / "lines.txt") == (
        f"kerasrnn: MODEL: expected a translator, got {tmp_path}/lm.onnx; use `kerasrnn generate`"
    )


@pytest.mark.slow
def test_a_quantized_export(folder, dates, tmp_path, capsys):
    out = tmp_path / "small"
    options = ("--format", "onnx", "--out", out, "--quantize", "fp16")
    code, told, _ = call(capsys, "export", folder / "run", *options, "--json")
    figures = json.loads(told)["measured"][f"{out}/model.fp16.onnx"]
    assert code == 0 and figures["full"]["lines"] == figures["fp16"]["lines"] == 25
    evaluated = json.loads(call(capsys, "evaluate", folder / "run", "--json")[1])
    for name in ("bleu", "chrf", "exact"):
        assert figures["full"][name] == pytest.approx(evaluated[name], abs=1e-6)
        assert figures["fp16"][name] == pytest.approx(evaluated[name], abs=5)
    small = out / "model.fp16.onnx"
    assert len(translated(capsys, small, dates.valid_source)) == 25


def test_only_a_whole_model_is_measured(folder, dates, tmp_path, capsys):
    export, data = (
        folder / "export",
        ("--source", dates.valid_source, "--target", dates.valid_target),
    )
    score = export / "score.onnx"
    for command in (("evaluate", score, *data), ("translate", score, folder / "lines.txt")):
        assert refused(capsys, *command) == (
            f"kerasrnn: MODEL: expected a whole model, got {score}, which is what a truth costs; "
            f"give {export}/model.onnx"
        )
    assert "which holds some; give" in refused(capsys, "evaluate", export, *data)
    alone = tmp_path / "model.onnx"
    alone.write_bytes((export / "model.onnx").read_bytes())
    assert refused(capsys, "evaluate", alone, *data) == (
        f"kerasrnn: MODEL: expected score.onnx beside it, got {alone} alone; copy it too, or "
        "export it anew: `kerasrnn export` writes both"
    )
