"""Translators as jobs: what a run leaves, stopping and going on, holding out, what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from kerasrnn.attention.scores import ATTENTIONS
from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.engine.recurrence import Plan
from kerasrnn.layers.decoder import CONDITIONINGS
from kerasrnn.layers.encoders import ENCODERS
from kerasrnn.layers.readout import READOUTS
from kerasrnn.pipelines.dates import write_dates
from kerasrnn.pipelines.pairs import Limits, read_pairs
from kerasrnn.tasks import evaluation, run_folder
from kerasrnn.tasks.evaluation import evaluate
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator import work as translation
from kerasrnn.text.tokenizers import TOKENIZERS
from kerasrnn.training.checkpoints import read_progress
from tests.test_tasks import say, train_and_stop, weights

SIDES = ("source", "target")
SMALL = translation.Settings(
    units=8,
    embedding=6,
    readout="maxout",
    dropout=0.2,
    scheduled_sampling=0.2,
    max_tokens=36,
    batch_size=16,
    pad_to_multiple=12,
    epochs=3,
    learning_rate=1e-2,
    beam=2,
)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Every recurrence as the plain loop: these tests are not about its speed."""
    monkeypatch.setattr("kerasrnn.engine.recurrence._choose", lambda *_: Plan("loop", "a test"))


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    return write_dates(tmp_path_factory.mktemp("dates"), train=80, valid=12)


def job(dates, out, **settings) -> translation.Job:
    return translation.Job(
        source=str(dates.train_source),
        target=str(dates.train_target),
        level="char",
        settings=dataclasses.replace(SMALL, **settings),
        seed=5,
        out=str(out),
        valid_source=str(dates.valid_source),
        valid_target=str(dates.valid_target),
    )


def history(run) -> list[dict]:
    """The rows of history.csv without what a clock says."""
    header, *lines = (run / "history.csv").read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    clock = ("tokens_per_second", "seconds")
    return [{name: v for name, v in row.items() if name not in clock} for row in rows]


@pytest.mark.slow
def test_stopped_equals_never_stopped(dates, tmp_path, monkeypatch):
    whole, parts = (job(dates, tmp_path / name) for name in ("whole", "parts"))
    best = train(whole, say, verbose=0)
    train_and_stop(monkeypatch, parts, 7)  # in the middle of the second epoch of 5 batches
    assert read_progress(tmp_path / "parts").batch == 2
    said = []
    found = train(parts, said.append, verbose=0)
    assert "going on in epoch 2, batch 3" in said
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history(tmp_path / "whole") == history(tmp_path / "parts")
    assert found["val_bleu"] == best["val_bleu"]
    assert len(history(tmp_path / "whole")) == 3


def test_what_a_run_leaves(dates, tmp_path):
    run, said = tmp_path / "run", []
    best = train(job(dates, run, epochs=2, best_by="chrf"), said.append, verbose=0)
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint",
        "config.json",
        "history.csv",
        "learning_curve.png",
        "model.keras",
        "samples.txt",
        "train.ids",
        "valid.ids",
    ]
    config = json.loads((run / "config.json").read_text())
    assert config["task"] == "translator" and config["job"]["seed"] == 5
    assert config["settings"]["best_by"] == "chrf" and config["settings"]["units"] == 8
    rows = history(run)
    assert best["val_chrf"] == max(float(row["val_chrf"]) for row in rows)
    assert {"nats", "val_nats", "val_bleu", "val_chrf", "val_exact"} <= set(rows[0])
    samples = (run / "samples.txt").read_text()
    first = dates.valid_source.read_text().splitlines()[0]
    assert samples.count("--- after epoch") == 2 and samples.count(f"  {first}\n= ") == 2
    kept = sum(
        1 for line in dates.train_source.read_text().splitlines() if len(line) <= SMALL.max_tokens
    )
    assert said[0].startswith(f"{kept} pairs, ") and said[0].endswith(" ids")
    measured = evaluate(run)
    chosen = min(rows, key=lambda row: -float(row["val_chrf"]))
    assert measured["nats"] == pytest.approx(float(chosen["val_nats"]), abs=1e-5)


@pytest.mark.slow
def test_bleu_decides_where_no_translation_is_exact(dates, tmp_path, monkeypatch):
    figures = iter([(1.0, 0.0), (3.0, 0.0)])

    def validation(*_):
        bleu, exact = next(figures)
        return {"val_bleu": bleu, "val_chrf": 9.0, "val_exact": exact}

    monkeypatch.setattr(translation, "validation", validation)
    run = tmp_path / "run"
    best = train(job(dates, run, best_by="exact", epochs=2), say, verbose=0)
    assert best["epoch"] == 2
    assert evaluate(run)["nats"] == pytest.approx(best["val_nats"], abs=1e-5)


@pytest.fixture(scope="module")
def table(tmp_path_factory, dates):
    """The same pairs as one TSV file."""
    path = tmp_path_factory.mktemp("table") / "dates.tsv"
    pairs = read_pairs(dates.train_source, dates.train_target)
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    return path


def from_table(table, out, **settings) -> translation.Job:
    settings = dataclasses.replace(SMALL, **settings)
    return translation.Job(source=str(table), level="word", settings=settings, seed=5, out=str(out))


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 0.45, 0.6, 0.97])
def test_what_is_held_out_is_spread_over_the_file(tmp_path, share):
    table, count = tmp_path / "numbers.tsv", 67
    table.write_text("".join(f"a{i}\tb{i}\n" for i in range(count)))
    sides = translation.hold_out(from_table(table, tmp_path / "run", valid_share=share), say)
    places = {}
    for part, texts in zip(("train", "valid"), sides, strict=True):
        pairs = list(texts.pairs())
        places[part] = [int(source[1:]) for source, _ in pairs]
        assert [target for _, target in pairs] == [f"b{i}" for i in places[part]]
    valid = places["valid"]
    assert len(valid) == round(share * count) and valid == sorted(valid)
    assert sorted(places["train"] + valid) == list(range(count))
    assert max(np.diff([-1, *valid])) <= -(-count // len(valid))


def test_pairs_left_out_are_named_by_the_users_own_line(tmp_path):
    table = tmp_path / "dirty.tsv"
    table.write_text("a\tb\n" * 50 + "a a a a\tb\n" + "a\tb\n" * 9)
    own = from_table(table, tmp_path / "run", max_tokens=3)
    texts = translation.texts_of(own, say)
    tokenizers = translation.make_tokenizers(own, texts[0])
    said = [translation._encoded(own, texts, tokenizers, tmp_path, say)[2]]
    said += [texts[1].encoded(tokenizers, tmp_path / "ids", Limits(maximum=3))[1]]
    assert f"1 over 3 tokens ({table}:51)" in f"{said[0]}{said[1]}"


@pytest.mark.slow
def test_a_table_without_validation_files(table, tmp_path):
    settings = {"epochs": 1, "valid_share": 0.1, "vocabulary": 40, "joint": True}
    shared = {"shared_embedding": True, "readout": "maxout_tied"}
    run = tmp_path / "run"
    best = train(from_table(table, run, **settings, **shared), say, verbose=0)
    model = run_folder.load_model(run)
    assert model.source_tokenizer.words == model.target_tokenizer.words
    assert len(model.target_tokenizer.words) == 40
    assert model.encoder.embedding is model.decoder.embedding
    # What was held out is found again.
    assert evaluate(run)["nats"] == pytest.approx(best["val_nats"], abs=1e-5)
    table.write_text(table.read_text() + "1 maj 1999\t1999-05-01\n")
    with pytest.raises(InputError, match=r"^RUN: expected the data that it was .* got .*tsv,"):
        evaluate(run)
    assert evaluate(run, source=str(table))["nats"] > 0


REFUSED = {
    "encoder": ("lstm", f"one of {', '.join(ENCODERS)}", "choose one of them"),
    "cell": ("x", f"one of {', '.join(CELLS)}", "choose one of them"),
    "conditioning": ("x", f"one of {', '.join(CONDITIONINGS)}", "choose one of them"),
    "attention": ("x", f"one of {', '.join(ATTENTIONS)}", "choose one of them"),
    "readout": ("x", f"one of {', '.join(READOUTS)}", "choose one of them"),
    "batch_by": ("words", "one of tokens, sentences", "choose one of them"),
    "best_by": ("nats", "one of bleu, chrf, exact", "choose one of them"),
    "units": (0, "1 or more", "raise it"),
    "decoder_layers": (0, "1 or more", "raise it"),
    "max_tokens": (0, "1 or more", "raise it"),
    "epochs": (0, "1 or more", "raise it"),
    "dropout": (1.0, "a share from 0 to below 1", "change it"),
    "scheduled_sampling": (-0.1, "a share from 0 to below 1", "change it"),
    "label_smoothing": (1.0, "a share from 0 to below 1", "change it"),
    "shared_embedding": (True, "joint=true beside it", "add it"),
    "beam": (0, "1 or more", "raise it"),
    "length_penalty": (-1.0, "0 or more", "change it"),
    "optimizer": ("x", "one of adagrad, adam, adamw, rmsprop, sgd", "choose one of them"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing(dates, tmp_path, name):
    value, expected, step = REFUSED[name]
    with pytest.raises(InputError) as error:
        train(job(dates, tmp_path / "run", **{name: value}), say, verbose=0)
    received = "joint=false" if name == "shared_embedding" else value
    assert str(error.value) == f"{name}: expected {expected}, got {received}; {step}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"encoder": "gnmt"}, "2 or more"),
        ({"attention": "dot"}, "queries as wide as the memory's values"),
        ({"cell": "mut1"}, "inputs with 8 features"),
    ],
)
def test_sizes_that_do_not_fit_are_the_users_fault(dates, tmp_path, settings, what):
    with pytest.raises(InputError) as error:
        train(job(dates, tmp_path / "run", **settings), say, verbose=0)
    assert what in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_target_for_validation_needs_its_source(dates, tmp_path):
    lonely = dataclasses.replace(job(dates, tmp_path / "run"), valid_source=None)
    with pytest.raises(InputError) as error:
        train(lonely, say, verbose=0)
    assert str(error.value) == (
        f"--valid-target: expected --valid-source beside it, got {dates.valid_target}; "
        "add --valid-source, or leave it out"
    )


def test_too_little_to_hold_out(tmp_path):
    (tmp_path / "one.tsv").write_text("a b\tc d\n" * 5)
    with pytest.raises(InputError) as error:
        train(from_table(tmp_path / "one.tsv", tmp_path / "run"), say, verbose=0)
    assert str(error.value) == (
        "--source: expected enough pairs to hold some out, got 5; give more, or --valid-source"
    )
    assert not (tmp_path / "run").exists()


def test_files_of_other_tasks_are_refused(tmp_path):
    for task, given, message in (
        (
            "translator",
            {"text": ["a.txt"], "source": None, "target": None},
            "--text: expected --source and --target for a translator, got a.txt; "
            "give --source and --target",
        ),
        (
            "lm",
            {"text": None, "source": "a.txt", "target": "b.txt"},
            "--source: expected --text for a language model, got a.txt; give --text",
        ),
    ):
        config = {"format": run_folder.FORMAT, "task": task, "settings": {}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError) as error:
            evaluation.evaluate(tmp_path, **given)
        assert str(error.value) == message


def test_presets_can_be_trained():
    tokenizers = TOKENIZERS["char"].from_texts(["abc", "def"])
    for name, preset in translation.TASK.presets.items():
        preset.check()
        assert (
            translation.make_model(preset, (tokenizers, tokenizers), 100, 0).count_params() > 0
        ), name
