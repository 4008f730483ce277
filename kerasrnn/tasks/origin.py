"""Begin a new run with the tokenizer and the weights of another run (`--start RUN`)."""

from __future__ import annotations

import re
from pathlib import Path

import keras

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.training.checkpoints import MODEL

OPTION = "--start"
OTHER_WEIGHTS = ("embeddings", "cnn_weights")  # settings that also load weights from a file


def origin_config(run: str | None) -> dict | None:
    """Return the entry `start` of `config.json`: the folder of the other run and its digest.

    Args:
        run: the run folder to start from; None gives None.

    Raises:
        InputError: when that run has no model.
    """
    if run is None:
        return None
    model = Path(run).resolve() / MODEL
    if not model.exists():
        raise InputError(OPTION, "the folder of a trained run", run, "check the path")
    return {"run": str(model.parent), **run_data.digests({"sha256": str(model)})}


def open_origin(job, config: dict) -> keras.Model:
    """Load the best model of the run from which `job` starts.

    Args:
        job: the new job, with `start`, `level` and `settings`.
        config: the `config.json` of the new run.

    Raises:
        InputError: when the other run cannot be used, has another task or another kind of token,
            or the job also loads weights from elsewhere.
    """
    origin = run_folder.read_config(job.start, OPTION)
    if origin["task"] != config["task"]:
        expected = f"a run of the task {config['task']}"
        received = f"{job.start}, a {origin['task']}"
        raise InputError(OPTION, expected, received, "give another run")
    for name in OTHER_WEIGHTS:
        if value := getattr(job.settings, name, None) or getattr(job, name, None):
            raise InputError(name, f"none beside {OPTION}", value, "leave one of them out")
    # The tokenizer of the other run is used, so all that shapes a tokenizer must be the same.
    tokens = {"--level": (origin["job"].get("level"), getattr(job, "level", None))}
    for name in ("vocabulary", "joint"):
        tokens[f"--set {name}"] = origin["settings"].get(name), getattr(job.settings, name, None)
    for name, (then, now) in tokens.items():
        if then != now:
            expected = f"{then}, as the run that {OPTION} names has it"
            raise InputError(name, expected, now, f"change it, or leave {OPTION} out")
    return run_folder.load_model(job.start, OPTION)


def take_weights(model: keras.Model, origin: keras.Model, run: str) -> None:
    """Copy the weights of `origin`, the model of the folder `run`, into `model`.

    Raises:
        InputError: when the names or shapes of their weights differ.
    """
    old_shapes, new_shapes = _weight_shapes(origin), _weight_shapes(model)
    for old, new in zip(old_shapes, new_shapes, strict=False):
        if old != new:
            expected = f"a model like that of {run}, which has {_in_words(old)}"
            raise InputError(OPTION, expected, _in_words(new), "give the same --preset and --set")
    if len(old_shapes) != len(new_shapes):
        expected = f"a model like that of {run}, which has {len(old_shapes)} weights"
        raise InputError(OPTION, expected, len(new_shapes), "give the same --preset and --set")
    model.set_weights(origin.get_weights())


def _weight_shapes(model: keras.Model) -> list[tuple[str, tuple]]:
    """Return path and shape of every weight, without the numbers in the names of layers."""
    # Keras numbers the layers that a process makes: the same layer may be "gru" or "gru_1".
    return [(re.sub(r"_\d+(?=/|$)", "", w.path), tuple(w.shape)) for w in model.weights]


def _in_words(weight: tuple[str, tuple]) -> str:
    """Return path and shape of a weight as text."""
    return f"{weight[0]} of {' x '.join(map(str, weight[1]))}"
