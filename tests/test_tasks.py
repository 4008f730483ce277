"""Settings, jobs and run folders: training that stops and goes on as if it had not."""

import dataclasses
import json
import re
import shutil

import keras
import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.evaluation import evaluate
from kerasrnn.tasks.lm import work as lm
from kerasrnn.tasks.lm.use import generate
from kerasrnn.tasks.session import config_of
from kerasrnn.tasks.settings import with_changes
from kerasrnn.tasks.training import train
from kerasrnn.training import interruption
from kerasrnn.training.checkpoints import newest_checkpoint, read_progress
from tests.id_files import ids_in
from tests.known_runs import known_of

TEXT = "the cat sat on the mat and the rat ran to the hat. " * 60
SMALL = lm.Settings(
    cell="gru", units=16, layers=1, embedding=8, dropout=0.2, batch_size=4, window=20, epochs=3
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def job(text, out, **settings) -> lm.Job:
    return lm.Job(
        text=[str(text)], settings=dataclasses.replace(SMALL, **settings), seed=5, out=str(out)
    )


def say(text):
    pass


def weights(run) -> list[np.ndarray]:
    return keras.saving.load_model(newest_checkpoint(run).folder / "model.keras").get_weights()


def rows_without_speed(run) -> list[list[str]]:
    lines = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    told = [i for i, name in enumerate(lines[0]) if name not in ("tokens_per_second", "seconds")]
    return [[line[i] for i in told] for line in lines]


def stop_after(batches: int):
    """Ask to stop when so many batches of this process are done, as Ctrl-C would."""

    class Stop(keras.callbacks.Callback):
        def __init__(self, checkpoints):
            super().__init__()
            self.checkpoints, self.seen = checkpoints, 0

        def on_train_batch_begin(self, batch, logs=None):
            self.seen += 1
            if self.seen == batches:
                self.checkpoints.asked.signal = 2

    return Stop


def train_and_stop(monkeypatch, a_job, batches: int) -> None:
    fit = interruption.fit

    def stopping_fit(model, at, valid, progress, epochs, callbacks):
        stop = stop_after(batches)(callbacks[-1])
        fit(model, at, valid, progress, epochs, [*callbacks, stop])

    with monkeypatch.context() as patch:
        patch.setattr(interruption, "fit", stopping_fit)
        patch.setattr(interruption, "SECONDS", float("inf"))  # no checkpoint between
        with pytest.raises(interruption.Interrupted):
            train(a_job, say, verbose=0)


@pytest.mark.parametrize("carry_state", [pytest.param(True, marks=pytest.mark.slow), False])
def test_stopped_twice_equals_never_stopped(text, tmp_path, monkeypatch, carry_state):
    whole = job(text, tmp_path / "whole", carry_state=carry_state)
    best = train(whole, say, verbose=0)
    parts = job(text, tmp_path / "parts", carry_state=carry_state)
    train_and_stop(monkeypatch, parts, 10)  # in the middle of an epoch
    assert read_progress(tmp_path / "parts").batch == 10
    train_and_stop(monkeypatch, parts, 30)  # in the middle of another
    assert train(parts, say, verbose=0)["val_nats"] == best["val_nats"]
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rows_without_speed(tmp_path / "whole") == rows_without_speed(tmp_path / "parts")


def test_what_a_run_leaves(text, tmp_path):
    run = tmp_path / "run"
    best = train(job(text, run), say, verbose=0)
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint",
        "config.json",
        "history.csv",
        "ids.bin",
        "learning_curve.png",
        "model.keras",
        "samples.txt",
    ]
    config = json.loads((run / "config.json").read_text())
    assert config["task"] == "lm" and config["job"]["seed"] == 5
    assert config["settings"] == dataclasses.asdict(SMALL)
    assert set(config["versions"]) == {"kerasrnn", "python", "tensorflow", "keras"}
    header = (run / "history.csv").read_text().splitlines()[0].split(",")
    assert {"epoch", "nats", "val_nats", "val_perplexity", "tokens_per_second"} <= set(header)
    assert (run / "samples.txt").read_text().count("--- after epoch") == 3
    measured = evaluate(run)
    assert measured["nats"] == pytest.approx(best["val_nats"], abs=1e-6)
    assert evaluate(run, text=[str(text)])["tokens"] == len(TEXT) // 4 * 4


def checkpoint_folders(run) -> list:
    return sorted((run / "checkpoint").iterdir())


@pytest.mark.parametrize("name", ["model.keras", "0.state.npz", "progress.json", "digests.json"])
def test_of_a_damaged_checkpoint_the_one_before_is_used(text, tmp_path, monkeypatch, name):
    run, said = tmp_path / "run", []
    train_and_stop(monkeypatch, job(text, run), 5)
    train_and_stop(monkeypatch, job(text, run), 6)
    before, last = checkpoint_folders(run)
    assert [before.name, last.name] == ["000000-000000005", "000000-000000011"]
    data = (last / name).read_bytes()
    (last / name).write_bytes(data[: len(data) // 2])
    with monkeypatch.context() as patch:
        patch.setattr(interruption, "fit", lambda model, at, valid, progress, *_: None)
        with pytest.raises(ValueError, match="empty"):  # nothing was trained
            train(job(text, run), said.append, verbose=0)
    assert said[0].startswith(f"the checkpoint {last} is damaged (")
    assert said[1] == "going on in epoch 1, batch 6"


def test_without_a_whole_checkpoint_a_run_is_refused_and_kept(text, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_and_stop(monkeypatch, job(text, run), 5)
    first, checkpoint = checkpoint_folders(run)
    (first / "digests.json").unlink()
    whole = (checkpoint / "model.keras").read_bytes()
    (checkpoint / "model.keras").write_bytes(whole[:-1])
    with pytest.raises(InputError) as error:
        train(job(text, run), say, verbose=0)
    assert str(error.value) == (
        f"RUN: expected a whole checkpoint, got {run / 'checkpoint'} ([Errno 2] No such file or "
        f"directory: '{first / 'digests.json'}'); copy it again, or train it again with --overwrite"
    )
    assert (checkpoint / "model.keras").read_bytes() == whole[:-1]
    (run / "config.json").write_text("{")
    with pytest.raises(
        InputError, match=r"^RUN: expected a run folder with a readable config.json"
    ):
        train(job(text, run), say, verbose=0)


@pytest.mark.slow
def test_what_a_kill_while_writing_left_is_cleared(text, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_and_stop(monkeypatch, job(text, run), 5)
    whole = checkpoint_folders(run)[-1]
    partial = run / "checkpoint" / ".partial.000000-000000009"
    shutil.copytree(whole, partial)
    (partial / "model.keras").write_bytes(b"half")
    train(job(text, run), say, verbose=0)
    assert read_progress(run).finished
    names = [path.name for path in checkpoint_folders(run)]
    assert names == ["000002-000000000", "000003-000000000"]


@pytest.mark.slow
def test_as_many_checkpoints_stay_as_asked(text, tmp_path):
    train(dataclasses.replace(job(text, tmp_path / "run"), keep_checkpoints=3), say, verbose=0)
    assert len(checkpoint_folders(tmp_path / "run")) == 3
    with pytest.raises(InputError) as error:
        train(
            dataclasses.replace(job(text, tmp_path / "other"), keep_checkpoints=0), say, verbose=0
        )
    assert str(error.value) == "--keep-checkpoints: expected 1 or more, got 0; raise it"


def test_nothing_but_a_run_is_overwritten(text, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError):
            train(dataclasses.replace(job(text, folder), overwrite=overwrite), say, verbose=0)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["learning_rate", "clip_at"])
def test_a_wrong_setting_is_refused_before_data_is_read(text, tmp_path, monkeypatch, name):
    monkeypatch.delattr(lm, "encode")
    monkeypatch.delattr("kerasrnn.tasks.session.config_of")
    for value in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError) as error:
            train(job(text, tmp_path / "run", **{name: value}), say, verbose=0)
        assert str(error.value) == f"{name}: expected a number above 0, got {value}; change it"


def test_sizes_that_do_not_fit_are_refused_before_the_text_is_read(tmp_path):
    settings = dataclasses.replace(SMALL, tied=True)
    wrong = dataclasses.replace(job(tmp_path / "none.txt", tmp_path / "run"), settings=settings)
    with pytest.raises(InputError) as error:
        train(wrong, say)
    wanted = "tied: expected embedding equal to units, got 8 and 16; make them equal"
    assert str(error.value) == wanted


def test_validation_text_of_its_own(text, tmp_path):
    valid, run = tmp_path / "valid.txt", tmp_path / "run"
    valid.write_text(TEXT[:500])
    own = dataclasses.replace(job(text, run), valid_text=[str(valid)])
    tokenizer, run = lm.make_tokenizer(own), tmp_path / "run"
    run.mkdir()
    *ids, _ = lm.streams(own, tokenizer, tmp_path, say)
    assert [len(stream) for stream in ids] == [len(TEXT), 500]
    train, held = lm.moved(run, *ids)
    assert ids_in(held) == ids_in(train)[:500]
    assert {path.name for path in run.iterdir()} == {"ids.bin", "valid.bin"}
    run_folder.open_run(run, config_of(own), overwrite=False)
    measured = lm.WORK.measured(known_of("lm", run, [tokenizer]), tmp_path, say)
    assert measured.said["tokens"] == 500
    valid.write_text(TEXT[:900])
    with pytest.raises(InputError, match=r"^RUN: expected the data that .* since; give --text$"):
        lm.measured_ids(known_of("lm", run, [tokenizer]), None, tmp_path)
    short = dataclasses.replace(own, settings=dataclasses.replace(SMALL, window=600))
    with pytest.raises(InputError, match=r"^--valid-text: expected a text that fills a window"):
        lm.datasets(short, train, held)


def test_lines_that_are_no_text_are_dropped_where_asked(tmp_path):
    (tmp_path / "latin.txt").write_bytes(TEXT.encode() + b"\nm\xe4rz\n")
    refusing = job(tmp_path / "latin.txt", tmp_path / "run")
    with pytest.raises(InputError, match=r"latin.txt:2 \(not UTF-8\); convert it"):
        lm.make_tokenizer(refusing)
    dropping = dataclasses.replace(refusing, faults="drop")
    tokenizer = lm.make_tokenizer(dropping)
    *_, report = lm.streams(dropping, tokenizer, tmp_path, say)
    assert (
        report.lines.dropped == {"not UTF-8": 1} and config_of(dropping)["job"]["faults"] == "drop"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window: expected 1 or more, got 0; raise it"),
        ({"valid_share": 1.0}, "valid_share: expected a share between 0 and 1, got 1.0; use 0.1"),
        (
            {"window": 2000},
            "--text: expected a text whose last 10%, for validation, fills a window of 2000, "
            "got 3,060 tokens in all; give more text, or a smaller --window",
        ),
        ({"warmup": 5.0}, "warmup: expected 0 to below 1, got 5.0; change it"),
        ({"vocabulary": -5}, "vocabulary: expected 0 or more, got -5; change it"),
        (
            {"learning_rate": float("nan")},
            "learning_rate: expected a number above 0, got nan; change it",
        ),
        ({"cell": "x"}, None),
        ({"optimizer": "x"}, None),
        ({"embeddings": "/nowhere.txt"}, None),
    ],
)
def test_what_is_refused_leaves_nothing(text, tmp_path, settings, message):
    with pytest.raises(InputError) as error:
        train(job(text, tmp_path / "run", **settings), say, verbose=0)
    assert message in (None, str(error.value))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.txt"]


@pytest.mark.slow
def test_the_mark_of_what_was_no_text_is_never_drawn(text, tmp_path):
    text.write_text(TEXT + "a\ufffd cat " * 200)
    train(job(text, tmp_path / "run", epochs=1), say, verbose=0)
    options = {"length": 400, "temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 1}
    [written] = generate(str(tmp_path / "run"), ["the"], **options)
    assert "\ufffd" not in written
    assert evaluate(tmp_path / "run", text=[str(text)])["unknown_in_text"] == 200


def test_word_vectors(text, tmp_path):
    vectors = tmp_path / "glove.txt"
    vectors.write_text("the 1.5 -2.0 0.25\ncat 0.5 3.0 -1.0\nzebra 9 9 9\n")
    said = []
    settings = {"embeddings": str(vectors), "embeddings_frozen": True, "epochs": 1}
    a_job = dataclasses.replace(job(text, tmp_path / "run", **settings), level="word")
    train(a_job, said.append, verbose=0)
    assert f"{vectors}: 2 of 11 words found, 3 numbers each" in said
    model = run_folder.load_model(tmp_path / "run")
    the = model.tokenizer.words.index("the") + 4
    np.testing.assert_array_equal(model.embedding.embeddings[the], [1.5, -2.0, 0.25])
    assert not model.embedding.trainable  # nor where training goes on


def test_set():
    settings = with_changes(SMALL, ["units=64", "tied=True", "embedding=one-hot", "dropout=0.5"])
    assert (settings.units, settings.tied, settings.dropout) == (64, True, 0.5)
    assert settings.embedding == "one-hot"
    assert with_changes(SMALL, ["embedding=32"]).embedding == 32


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("units=many", "units: expected a whole number, got many; correct it"),
        ("dropout=x", "dropout: expected a number, got x; correct it"),
        ("tied=1", "tied: expected true or false, got 1; write one of them"),
    ],
)
def test_wrong_set(assignment, message):
    with pytest.raises(InputError) as error:
        with_changes(SMALL, [assignment])
    assert str(error.value) == message


def test_unknown_set():
    for assignment in ("unit=3", "units"):
        with pytest.raises(InputError, match=r"^--set: expected name=value with a name of batch"):
            with_changes(SMALL, [assignment])


def test_presets_are_trainable_settings():
    assert list(lm.TASK.presets) == ["tiny", "small", "shakespeare"]
    for preset in lm.TASK.presets.values():
        assert preset.clip == "global_norm" and preset.carry_state


def test_a_loss_that_is_no_number_stops_and_the_step_before_is_kept(text, tmp_path, recwarn):
    run, said = tmp_path / "run", []
    wild = job(text, run, learning_rate=5e37, schedule="constant", clip="none", optimizer="adam")
    with pytest.raises(InputError) as error:
        train(wild, said.append, verbose=0)
    message = str(error.value)
    where = r"epoch 1, batch \d+, first in .*; lower it, or clip_at"
    finite = "learning_rate: expected a loss that stays finite, got (nan|inf) in "
    assert re.fullmatch(finite + where, message)
    assert said[-1].endswith("looking for where it began")
    kept = newest_checkpoint(run)
    batch = int(message.split("batch ")[1].split(",")[0])
    assert (kept.progress.epoch, kept.progress.batch) == (0, batch - 1)
    assert not [w for w in recwarn if "Skipping variable loading" in str(w.message)]
    for weight in keras.saving.load_model(kept.folder / "model.keras").get_weights():
        assert np.isfinite(weight).all()


@pytest.mark.slow
def test_precision_accumulation_and_averages_are_wired(text, tmp_path):
    settings = {"precision": "mixed_bfloat16", "accumulate": 2, "ema": 0.9, "epochs": 2}
    best = train(job(text, tmp_path / "run", **settings), say, verbose=0)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.recurrent[0].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    assert model.optimizer.gradient_accumulation_steps == 2 and model.optimizer.use_ema
    measured = evaluate(tmp_path / "run")  # what was validated is what was kept: the average
    assert measured["nats"] == pytest.approx(best["val_nats"], rel=1e-3)
    last = keras.saving.load_model(newest_checkpoint(tmp_path / "run").folder / "model.keras")
    raw = last.recurrent[0].cell.kernel.numpy()
    assert np.abs(raw - model.recurrent[0].cell.kernel.numpy()).max() > 1e-4


@pytest.mark.slow
def test_training_ends_early_and_goes_on_to_the_same_end(text, tmp_path, monkeypatch):
    settings = {"learning_rate": 0.5, "schedule": "constant", "patience": 2, "epochs": 30}
    train(job(text, tmp_path / "whole", **settings), say, verbose=0)
    rows = rows_without_speed(tmp_path / "whole")
    assert 3 <= len(rows) - 1 < 30 and newest_checkpoint(tmp_path / "whole").progress.finished
    parts = job(text, tmp_path / "parts", **settings)
    train_and_stop(monkeypatch, parts, 36 * 2 + 5)
    train(parts, say, verbose=0)
    assert rows_without_speed(tmp_path / "parts") == rows


@pytest.mark.slow
def test_the_mean_of_the_last_epochs_is_tried_and_kept_when_it_is_best(text, tmp_path):
    settings = {"average_last": 2, "schedule": "constant", "learning_rate": 0.2}
    best = train(job(text, tmp_path / "run", **settings), say, verbose=0)
    files = sorted(path.name for path in (tmp_path / "run" / "epochs").iterdir())
    assert files == ["000001.weights.h5", "000002.weights.h5"]
    last = keras.saving.load_model(newest_checkpoint(tmp_path / "run").folder / "model.keras")
    found = []
    for file in files:
        last.load_weights(tmp_path / "run" / "epochs" / file)
        found.append(last.get_weights())
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert best["averaged"] == 2  # it is better here
    [*_, last_row] = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert str(best["val_nats"]) in last_row.split(",") and last_row.endswith(",2")
    for mean, *both in zip(model.get_weights(), *found, strict=True):
        np.testing.assert_allclose(mean, np.mean(both, axis=0), atol=1e-6)
    assert evaluate(tmp_path / "run")["nats"] == pytest.approx(best["val_nats"], abs=1e-5)
    plain = train(job(text, tmp_path / "plain", **settings | {"average_last": 0}), say, verbose=0)
    assert plain["val_nats"] > best["val_nats"]
    for a, b in zip(weights(tmp_path / "run"), weights(tmp_path / "plain"), strict=True):
        np.testing.assert_array_equal(a, b)  # training itself is as it was
