"""A new run that begins with the tokenizer and the weights of another."""

import dataclasses
import json
import re

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.training import train
from tests.test_tasks import TEXT, job, say, train_and_stop


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A text, a run trained on it, and its best row."""
    folder = tmp_path_factory.mktemp("origin")
    text, run = folder / "text.txt", folder / "run"
    text.write_text(TEXT)
    return text, run, train(job(text, run, epochs=1), say, verbose=0)


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another_and_goes_on(trained, tmp_path, monkeypatch):
    (_, run, first), other = trained, tmp_path / "other.txt"
    other.write_text("the cat sat at the mat. " * 80)  # a tokenizer of its own would be smaller
    new = dataclasses.replace(job(other, tmp_path / "new", epochs=1), start=str(run))
    train_and_stop(monkeypatch, new, 3)
    said = []
    best = train(new, said.append, verbose=0)
    assert any(line.startswith("going on in epoch 1, batch 4") for line in said)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["start"]["run"] == str(run)
    models = [run_folder.load_model(one) for one in (run, tmp_path / "new")]
    assert models[0].tokenizer.get_config() == models[1].tokenizer.get_config()
    assert best["val_nats"] < first["val_nats"]


def test_a_run_to_begin_from_that_does_not_fit(trained, tmp_path):
    (text, run, _), new = trained, tmp_path / "new"

    def refused(level="char", start=run, **settings):
        a_job = dataclasses.replace(job(text, new, **settings), start=str(start), level=level)
        with pytest.raises(InputError) as error:
            train(a_job, say, verbose=0)
        assert not new.exists()
        return str(error.value)

    assert re.fullmatch(
        rf"--start: expected a model like that of {run}, which has \S+ of 8 x 48, got \S+ of "
        r"8 x 51; give the same --preset and --set",
        refused(units=17),
    )
    assert refused(level="word") == (
        "--level: expected char, as the run that --start names has it, got word; change it, or "
        "leave --start out"
    )
    assert refused(vocabulary=9).startswith("--set vocabulary: expected 0, as the run that")
    assert refused(embeddings="a.txt") == (
        "embeddings: expected none beside --start, got a.txt; leave one of them out"
    )
    assert refused(start=tmp_path) == (
        f"--start: expected the folder of a trained run, got {tmp_path}; check the path"
    )
