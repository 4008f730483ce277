"""Captioners as jobs: BLEU by hand, features kept on disk, stopping and going on."""

import contextlib
import dataclasses
import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.engine.recurrence import Plan
from kerasrnn.models.captioner import Captioner
from kerasrnn.pipelines.scenes import CAPTIONS, write_scenes
from kerasrnn.tasks.captioner import data as captioning_data
from kerasrnn.tasks.captioner import work as captioning
from kerasrnn.tasks.evaluation import evaluate
from kerasrnn.tasks.training import train
from kerasrnn.training.checkpoints import read_progress
from tests.test_tasks import rows_without_speed, say, train_and_stop, weights

SMALL = captioning.Settings(
    image_size=16,
    units=8,
    embedding=6,
    max_tokens=30,
    pad_to_multiple=32,
    batch_size=20,
    epochs=3,
    learning_rate=1e-2,
    beam=2,
    flip=True,
    min_crop=0.8,
    colour_jitter=0.2,
)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    """Every recurrence as the plain loop: these tests are not about its speed."""
    monkeypatch.setattr("kerasrnn.engine.recurrence._choose", lambda *_: Plan("loop", "a test"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=20, valid=5)


def job(scenes, out, weights=None, **settings) -> captioning.Job:
    return captioning.Job(
        images=str(scenes.images),
        captions=str(scenes.train),
        level="word",
        settings=dataclasses.replace(SMALL, **settings),
        seed=5,
        out=str(out),
        valid_captions=str(scenes.valid),
        cnn_weights=weights,
    )


def test_captions_are_equally_long_everywhere():
    defaults = [
        inspect.signature(function).parameters["max_length"].default
        for function in (Captioner.captions, Captioner.served)
    ]
    assert defaults == [captioning.Settings().max_tokens] * 2


def test_bleu_by_hand():
    """Two captions; precisions over the corpus, counts clipped by the best reference."""
    found = ["A red dog, runs", "the the the cat"]
    references = [("a red dog runs fast", "red dogs run"), ("the cat", "a cat on the mat")]
    figures = captioning.scores(found, references)
    # 4 of 4 and 2 ("the" once in a reference... and "cat") of 4; closest lengths 4, or 3, and 5
    one = (4 + 2) / 8
    two = (3 + 1) / 6
    brevity = math.exp(1 - (5 + 5) / 8) if 8 < 10 else 1.0
    brevity_closer = math.exp(1 - (3 + 5) / 8)  # length 4 is as far from 5 as from 3: the shorter
    assert brevity != brevity_closer
    assert figures["bleu_1"] == pytest.approx(100 * brevity_closer * one)
    assert figures["bleu_2"] == pytest.approx(100 * brevity_closer * math.sqrt(one * two))
    assert captioning.scores(["a b"], [("c d",)])["bleu_4"] == 0.0


@pytest.mark.slow
def test_stopped_and_gone_on_is_uninterrupted(scenes, tmp_path, monkeypatch):
    train(job(scenes, tmp_path / "whole"), say, verbose=0)
    parts = job(scenes, tmp_path / "parts")
    train_and_stop(monkeypatch, parts, 7)
    stopped, per_epoch = read_progress(tmp_path / "parts"), 20 * CAPTIONS // SMALL.batch_size
    assert (stopped.epoch, stopped.batch) == divmod(7, per_epoch) and stopped.batch
    train(parts, say, verbose=0)
    assert rows_without_speed(tmp_path / "whole") == rows_without_speed(tmp_path / "parts")
    for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "parts"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_features_of_a_frozen_network_are_made_once(scenes, tmp_path, monkeypatch):
    still = {
        "flip": False,
        "min_crop": 1.0,
        "colour_jitter": 0.0,
        "trainable_stages": 0,
        "epochs": 1,
    }
    frozen = dataclasses.replace(job(scenes, tmp_path / "a", **still), cache=str(tmp_path / "kept"))
    train(frozen, say, verbose=0)
    [kept] = (tmp_path / "kept").iterdir()
    assert kept.name.startswith("small-16-") and len(list(kept.iterdir())) == 25
    assert np.load(next(kept.iterdir())).shape == (64, 96)
    first = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    train(dataclasses.replace(frozen, out=str(tmp_path / "b")), say, verbose=0)
    assert first == {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert evaluate(tmp_path / "b")["images"] == 5


@pytest.mark.slow
def test_captions_that_changed_are_not_measured(scenes, tmp_path):
    captions = tmp_path / "train.csv"
    captions.write_bytes(scenes.train.read_bytes())
    given = dataclasses.replace(
        job(scenes, tmp_path / "run", epochs=1), captions=str(captions), valid_captions=None
    )
    train(given, say, verbose=0)
    captions.write_bytes(scenes.valid.read_bytes())
    with pytest.raises(InputError, match=r"^RUN: expected the data that it was trained on"):
        evaluate(tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "weights", "argument"),
    [
        ({"backbone": "VGG17"}, None, "backbone"),
        ({"image_size": 50}, None, "image_size"),
        ({}, "none.h5", "--cnn-weights"),
        ({}, "imagenet", "--cnn-weights"),
        ({"label_smoothing": 1.0}, None, "label_smoothing"),
    ],
)
def test_wrong_settings_are_refused_before_data_is_read(
    scenes, tmp_path, monkeypatch, settings, weights, argument
):
    monkeypatch.delattr(captioning, "read_captions")
    with pytest.raises(InputError, match=f"^{argument}: "):
        train(job(scenes, tmp_path / "run", weights, **settings), say, verbose=0)


@pytest.mark.parametrize("cache", [None, "shared"])
def test_a_shared_cache_is_filled_by_the_chief_first(cache, monkeypatch):
    done = []

    @contextlib.contextmanager
    def chief_first(strategy):
        done.append(strategy)
        yield
        done.append("the others")

    monkeypatch.setattr("kerasrnn.distribution.chief_first", chief_first)
    store = SimpleNamespace(fill=done.append)
    monkeypatch.setattr(captioning_data, "store_of", lambda *_: store)
    job, session = SimpleNamespace(cache=cache), SimpleNamespace(strategy="workers")
    assert captioning_data.filled_store(None, job, None, session, ["a.png"]) is store
    assert done == (["workers", ["a.png"], "the others"] if cache else [["a.png"]])
