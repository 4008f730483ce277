"""Run folders: trained further, data that moved, other formats."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.captioner import work as captioning
from kerasrnn.tasks.evaluation import evaluate
from kerasrnn.tasks.lm import work as lm
from kerasrnn.tasks.session import config_of
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator import work as translation
from kerasrnn.training.checkpoints import newest_checkpoint
from kerasrnn.training.optimizers import Course
from tests.known_runs import known_of
from tests.test_tasks import TEXT, job, rows_without_speed, say, train_and_stop
from tests.test_tasks import text as text  # a fixture
from tests.train_under import TASKS


def test_a_finished_run_stays(text, tmp_path):
    run = tmp_path / "run"
    train(job(text, run, epochs=1), say, verbose=0)
    before = (run / "model.keras").read_bytes()
    with pytest.raises(InputError) as error:
        train(job(text, run, epochs=1), say, verbose=0)
    assert str(error.value) == (
        f"--out: expected a new folder or a run with epochs left to train, got {run}, which is "
        "finished after 1; raise --epochs, or use --overwrite"
    )
    assert (run / "model.keras").read_bytes() == before
    train(dataclasses.replace(job(text, run, epochs=2), overwrite=True), say, verbose=0)
    assert len((run / "history.csv").read_text().splitlines()) == 3


def test_another_command_does_not_go_on(text, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train_and_stop(monkeypatch, job(text, run), 5)
    with pytest.raises(InputError) as error:
        train(job(text, run, units=17), say, verbose=0)
    assert str(error.value) == (
        f"--out: expected the command that began {run}, got units=17 where it was 16; "
        "use another --out, or --overwrite"
    )
    text.write_text(TEXT + "more")
    with pytest.raises(InputError, match=r"got another content of --text; use another"):
        train(job(text, run), say, verbose=0)


@pytest.mark.slow
def test_a_finished_run_is_trained_further(text, tmp_path):
    run = tmp_path / "run"
    train(job(text, run, epochs=1), say, verbose=0)
    first = rows_without_speed(run)
    best = train(job(text, run, epochs=3), say, verbose=0)
    rows = rows_without_speed(run)
    assert rows[:2] == first and len(rows) == 4
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["epochs"] == 3 and config["epochs_before"] == [1]
    assert best["epoch"] == 3
    # The rate is on the course of three epochs: at its end, and not long past that of one.
    optimizer = keras.saving.load_model(newest_checkpoint(run).folder / "model.keras").optimizer
    steps = int(optimizer.iterations)
    course = Course(3e-3, "cosine", steps, int(0.05 * steps)).learning_rate()
    for step in (steps // 3, steps // 2, steps):
        assert float(optimizer._learning_rate(step)) == float(course(step))
    for epochs, message in (
        (
            2,
            f"--epochs: expected as many epochs as are done, or more, got 2, with 3 done in {run};",
        ),
        (3, "--out: expected a new folder or a run with epochs left to train, got "),
    ):
        with pytest.raises(InputError) as error:
            train(job(text, run, epochs=epochs), say, verbose=0)
        assert str(error.value).startswith(message)


@pytest.mark.slow
def test_the_same_data_in_another_place_is_the_same(text, tmp_path, monkeypatch):
    run, moved = tmp_path / "run", tmp_path / "moved" / "text.txt"
    train_and_stop(monkeypatch, job(text, run), 5)
    moved.parent.mkdir()
    text.rename(moved)
    with pytest.raises(InputError) as error:
        lm.measured_ids(known_of("lm", run), None, tmp_path)
    assert str(error.value) == (
        f"RUN: expected the data that it was trained on, got {text}, which is gone; give --text"
    )
    said = []
    train(job(moved, run, epochs=1), said.append, verbose=0)
    assert "going on in epoch 1, batch 6" in said
    assert evaluate(run)["nats"] > 0  # it knows the new place


def test_a_run_of_another_format_or_with_other_settings(text, tmp_path):
    run = run_folder.open_run(tmp_path / "run", config_of(job(text, tmp_path / "run")), False)
    config = json.loads((run / "config.json").read_text())
    assert config["format"] == 1

    def refused(**changes):
        (run / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(InputError) as error:
            lm.measured_ids(known_of("lm", run), None, tmp_path)
        return str(error.value)

    versions = {**config["versions"], "kerasrnn": "9.8"}
    assert refused(format=2, versions=versions) == (
        f"RUN: expected a run folder of format 1, got {run} with format 2, written by "
        "kerasrnn 9.8; use that version of kerasrnn, or train again"
    )
    assert refused(format=None, versions={}) == (
        f"RUN: expected a run folder of format 1, got {run} with no format number, written by "
        "an early kerasrnn; use that version of kerasrnn, or train again"
    )
    assert refused(settings={**config["settings"], "gates": 4}, versions=versions) == (
        f"RUN: expected settings that this version knows, got gates=4 in {run}/config.json, "
        "written by kerasrnn 9.8; use that version of kerasrnn, or train again"
    )
    assert "got mood='x' in" in refused(job={**config["job"], "mood": "x"})
    for part, key in (("settings", "gates"), ("job", "mood")):
        (run / "config.json").write_text(json.dumps({**config, part: {**config[part], key: 4}}))
        with pytest.raises(InputError, match=f"got {key}=None where it was 4"):
            train(job(text, run), say, verbose=0)


def moved_job(task: str, folder, tmp_path):
    """A small job whose data is a copy, in `folder`, of the data of any other such job."""
    original = tmp_path / "original"
    original.mkdir(exist_ok=True)
    first = TASKS[task](original, str(tmp_path / "run"), lambda s: s)
    if not folder.exists():
        shutil.copytree(original, folder)

    def there(value):
        return value and str(folder / Path(value).relative_to(original))

    files = {name: there(value) for name, value in first.files().items()}
    return first, dataclasses.replace(first, **files)


@pytest.mark.parametrize("task", ["translator", "captioner"])
def test_data_is_known_by_its_bytes(tmp_path, task):
    first, moved = moved_job(task, tmp_path / "moved", tmp_path)
    run = run_folder.open_run(tmp_path / "run", config_of(first), False)
    assert run_folder.find_checkpoint(run, config_of(moved)) is None  # not begun, and not refused
    run_folder.open_run(run, config_of(moved), False)
    config = json.loads((run / "config.json").read_text())
    assert config == {"format": 1, **config_of(moved)}  # it says where they are now
    longer = dataclasses.replace(moved.settings, epochs=50)
    run_folder.open_run(run, config_of(dataclasses.replace(moved, settings=longer)), False)
    assert json.loads((run / "config.json").read_text())["epochs_before"] == [5]
    names = {"translator": ["target", "valid_source"], "captioner": ["captions", "images"]}[task]
    for name in names:
        path = Path(getattr(moved, name))
        file = path if path.is_file() else sorted(path.iterdir())[0]
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        with pytest.raises(InputError) as error:
            run_folder.find_checkpoint(run, config_of(moved))
        assert str(error.value) == (
            f"--out: expected the command that began {run}, got another content of "
            f"--{name.replace('_', '-')}; use another --out, or --overwrite"
        )
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        ("translator", "valid_target", "--source and --target"),
        ("captioner", "valid_captions", "--images and --captions"),
        ("captioner", "images", "--images and --captions"),
    ],
)
def test_data_that_is_gone_or_changed_is_asked_for(tmp_path, task, name, options):
    _, moved = moved_job(task, tmp_path / "moved", tmp_path)
    run, path = run_folder.open_run(tmp_path / "run", config_of(moved), False), getattr(moved, name)

    def refused() -> str:
        with pytest.raises(InputError) as error:
            if task == "translator":
                translation.measured_texts(known_of(task, run), None, None)
            else:
                captioning.measured_images(known_of(task, run), None, None, None, say)
        return str(error.value)

    expected = "RUN: expected the data that it was trained on, got"
    if name != "images":
        Path(path).write_text(Path(path).read_text() + "more\n")
        assert refused() == f"{expected} {path}, changed since; give {options}"
    Path(path).rename(tmp_path / "elsewhere")
    assert refused() == f"{expected} {path}, which is gone; give {options}"
    file = run / "config.json"
    config = json.loads(file.read_text())
    del config["data"]["sha256"]
    file.write_text(json.dumps(config))
    assert refused() == (f"{expected} a config.json that does not say which it was; give {options}")
