"""`--start RUN`: a new run that begins with the tokenizer and the weights of another run."""

from __future__ import annotations

import re
from pathlib import Path

import keras

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_folder
from kerasrnn.training.checkpoints import MODEL

OPTION = "--start"
OTHER_WEIGHTS = ("embeddings", "cnn_weights")  # what weights may come from otherwise


def origin_config(run: str | None) -> dict | None:
    """What `config.json` says of where a run begins."""
    if run is None:
        return None
    model = Path(run).resolve() / MODEL
    if not model.exists():
        raise InputError(OPTION, "the folder of a trained run", run, "check the path")
    return {"run": str(model.parent), **run_folder.digests({"sha256": str(model)})}


def open_origin(job, config: dict) -> keras.Model:
    """The best model of the run that `job` begins from.

    Args:
        job: with `start`, `level` and `settings`.
        config: what `config.json` will hold of it.

    Raises:
        InputError: when that run cannot be used, or is of another task or another kind of token.
    """
    before = run_folder.read_config(job.start, OPTION)
    if before["task"] != config["task"]:
        expected, received = (
            f"a run of the task {config['task']}",
            f"{job.start}, a {before['task']}",
        )
        raise InputError(OPTION, expected, received, "give another run")
    for name in OTHER_WEIGHTS:
        if value := getattr(job.settings, name, None) or getattr(job, name, None):
            raise InputError(name, f"none beside {OPTION}", value, "leave one of them out")
    tokens = {"--level": (before["job"]["level"], job.level)}
    for name in ("vocabulary", "joint"):
        tokens[f"--set {name}"] = before["settings"].get(name), getattr(job.settings, name, None)
    for name, (then, now) in tokens.items():
        if then != now:
            expected = f"{then}, as the run that {OPTION} names has it"
            raise InputError(name, expected, now, f"change it, or leave {OPTION} out")
    return run_folder.load_model(job.start, OPTION)


def take_weights(model: keras.Model, origin: keras.Model, run: str) -> None:
    """Let `model` begin with the weights of `origin`, which is the model of the folder `run`.

    Raises:
        InputError: when their sizes differ.
    """
    then, now = (_shapes(one) for one in (origin, model))
    for old, new in zip(then, now, strict=False):
        if old != new:
            expected = f"a model like that of {run}, which has {_said(old)}"
            raise InputError(OPTION, expected, _said(new), "give the same --preset and --set")
    if len(then) != len(now):
        expected = f"a model like that of {run}, which has {len(then)} weights"
        raise InputError(OPTION, expected, len(now), "give the same --preset and --set")
    model.set_weights(origin.get_weights())


def _shapes(model: keras.Model) -> list[tuple[str, tuple]]:
    # Names count the layers that a process has made.
    return [(re.sub(r"_\d+(?=/|$)", "", w.path), tuple(w.shape)) for w in model.weights]


def _said(weight: tuple[str, tuple]) -> str:
    return f"{weight[0]} of {' x '.join(map(str, weight[1]))}"
