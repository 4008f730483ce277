"""Read and write the run folder, which training fills and from which it resumes.

`model.keras` is the best model, `config.json` everything that made it, `checkpoint/` where
training stands. Beside them: `history.csv`, `samples.txt`, `learning_curve.png`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import keras

from kerasrnn.base.choices import BEST, CHECKPOINTS
from kerasrnn.base.errors import InputError, first_line
from kerasrnn.base.files import (
    check_writable,
    recover,
    remove,
    replacing,
)
from kerasrnn.base.locks import LOCK
from kerasrnn.tasks.trust import Untrusted, check_model
from kerasrnn.training.checkpoints import FOLDER, MODEL, Checkpoint, Progress, newest_checkpoint

CONFIG = "config.json"
FORMAT = 1  # of config.json; a folder with another number is refused
OTHER_VERSION = "use that version of kerasrnn, or train again"
LENGTHS = "epochs_before"  # config key: the numbers of epochs that earlier commands asked for


def find_checkpoint(
    path: str | Path, config: dict, warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Return the checkpoint from which this command resumes its run, or None for a new run.

    The command may ask for a new number of epochs, if some of them are still to be trained.

    Args:
        path: the run folder.
        config: what this command would train; must be plain JSON.
        warn: called with a message for each damaged checkpoint.

    Raises:
        InputError: when the folder is no run, is the run of another command, or has nothing left
            to train.
    """
    path = Path(path)
    recover(path / CONFIG)
    if not path.exists() or (path.is_dir() and not _children(path)):
        return None
    before = read_config(path)
    _check_command(path, before, config)
    checkpoint = newest_checkpoint(path, warn)
    if checkpoint is not None:
        _check_epochs(path, checkpoint.progress, before["settings"], config["settings"])
    return checkpoint


def _check_epochs(path: Path, progress: Progress, before: dict, now: dict) -> None:
    """Refuse a run with nothing left to train (InputError), else mark `progress` as unfinished."""
    done, epochs = progress.epoch, now["epochs"]
    if epochs < done + bool(progress.batch):  # an epoch that has begun counts too
        received = f"{epochs}, with {done} done in {path}"
        next_step = "give more, or use --overwrite"
        raise InputError("--epochs", "as many epochs as are done, or more", received, next_step)
    # Early stopping finishes a run before its last epoch: then `done` is below `epochs`.
    stopped_early = progress.finished and epochs <= before["epochs"]
    if stopped_early or epochs == done:
        raise InputError(
            "--out",
            "a new folder or a run with epochs left to train",
            f"{path}, which is finished after {done}",
            "raise --epochs, or use --overwrite",
        )
    progress.finished = False


def open_run(path: str | Path, config: dict, overwrite: bool) -> Path:
    """Create the run folder with its `config.json`, or open the one that exists.

    Args:
        path, config: as in `find_checkpoint`.
        overwrite: first remove the run in this folder. Only a run is ever removed.

    Raises:
        InputError: when the folder cannot be written, or the one to overwrite is no run.
    """
    path = Path(path)
    check_writable(path)
    recover(path / CONFIG)
    if overwrite and path.exists() and (not path.is_dir() or _children(path)):
        if not (path / CONFIG).exists():
            raise InputError("--overwrite", "a run folder", path, "remove it yourself")
        for child in _children(path):
            # config.json marks the folder as a run, so it is removed after everything else.
            if child.name != CONFIG:
                remove(child)
        remove(path / CONFIG)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG).exists():
        _write_config(path, config)
    elif _without_versions(before := read_config(path)) != _without_versions(config):
        _write_config(path, _continued(before, config))
    return path


def _continued(before: dict, config: dict) -> dict:
    """Return the config of a resumed run whose number of epochs or place of data has changed."""
    lengths, epochs = before.get(LENGTHS, []), before["settings"]["epochs"]
    if epochs != config["settings"]["epochs"]:
        lengths = [*lengths, epochs]
    # Keep the first "start": the model that it names may have been trained further since.
    return {**config, "start": before.get("start"), **({LENGTHS: lengths} if lengths else {})}


def _write_config(path: Path, config: dict) -> None:
    """Write `config.json` with the format number; a kill leaves the old file whole."""
    with replacing(path / CONFIG) as file:
        text = json.dumps({"format": FORMAT, **config}, indent=2)
        file.write_text(text + "\n", encoding="utf-8")


def _without_versions(config: dict) -> dict:
    """Return a config without the keys that describe the program and the run's past."""
    return {n: v for n, v in config.items() if n not in ("format", "versions", LENGTHS)}


def _children(path: Path) -> list[Path]:
    """List the entries of a folder, without the lock file that this process holds there."""
    return [child for child in path.iterdir() if child.name != LOCK]


def read_config(path: str | Path, argument: str = "RUN") -> dict:
    """Return `config.json` of a run folder, which the user gave as `argument`.

    Raises:
        InputError: when there is no such file, it is damaged, or it has another format than
            `FORMAT`.
    """
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
            raise ValueError("no settings in it")
    except (OSError, ValueError) as error:
        raise InputError(
            argument,
            "a run folder with a readable config.json",
            f"{path} ({error})",
            "give another folder",
        ) from error
    if config.get("format") != FORMAT:
        number = config.get("format")
        kind = "no format number" if number is None else f"format {number}"
        received = f"{path} with {kind}, {_writer(config)}"
        raise InputError(argument, f"a run folder of format {FORMAT}", received, OTHER_VERSION)
    return config


def _writer(config: dict) -> str:
    """Say in words which version of kerasrnn wrote a config."""
    versions = config.get("versions")
    version = versions.get("kerasrnn") if isinstance(versions, dict) else None
    return f"written by kerasrnn {version}" if version else "written by an early kerasrnn"


def read_settings(run: str | Path, kind: type):
    """Return the settings of a run as an instance of the dataclass `kind`.

    Raises:
        InputError: when the run cannot be read, or its settings do not fit the fields of `kind`.
    """
    config = read_config(run)
    return _instance(kind, config["settings"], run, config)


def read_job(run: str | Path, kind: type, settings: type):
    """Return the job of a run as an instance of the dataclass `kind`.

    Args:
        run: the run folder.
        kind: the class of the job.
        settings: the class of the job's settings.

    Raises:
        InputError: as `read_settings` does.
    """
    config = read_config(run)
    try:
        values = {**config["job"], **config["data"]["files"]}
    except (KeyError, TypeError) as error:
        received = f"{run} ({error} is missing)"
        expected = "a run folder with a readable config.json"
        raise InputError("RUN", expected, received, "give another folder") from error
    values |= {"settings": read_settings(run, settings), "out": str(run)}
    return _instance(kind, values, run, config)


def _instance(kind: type, values: dict, run: str | Path, config: dict):
    """Return the dataclass `kind` with these values, whose types are checked (InputError)."""
    types = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [n for n, v in values.items() if n not in fields or not _fits(v, types[n])]
    missing = [
        name
        for name, field in fields.items()
        # Both are dataclasses.MISSING in a field without a default.
        if name not in values and field.default is field.default_factory
    ]
    if unknown or missing:
        fault = f"{unknown[0]}={values[unknown[0]]!r}" if unknown else f"no {missing[0]}"
        received = f"{fault} in {Path(run) / CONFIG}, {_writer(config)}"
        raise InputError("RUN", "settings that this version knows", received, OTHER_VERSION)
    return kind(**values)


def _fits(value, annotation) -> bool:
    """Return whether a value from JSON has the type of a field; an int also fits a float."""
    types = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    # isinstance takes no parametrized types: `list[str]` is checked as `list`.
    types = tuple(get_origin(kind) or kind for kind in types)
    return isinstance(value, (*types, int) if float in types else types)


def _check_command(path: Path, before: dict, config: dict) -> None:
    """Refuse the run of another command (InputError)."""
    for name, then, now in _comparisons(before, config):
        if then != now:
            expected = f"the command that began {path}"
            step = "use another --out, or --overwrite"
            raise InputError("--out", expected, _difference(name, then, now), step)


def _comparisons(before: dict, config: dict):
    """Yield (name, value then, value now) of everything that must be the same in one run.

    Where the data lies and the number of epochs may differ.
    """
    for name in ("task", "job"):
        yield name, before.get(name), config.get(name)
    yield "sha256", before.get("data", {}).get("sha256"), config.get("data", {}).get("sha256")
    then, now = before.get("start"), config.get("start")
    # Its digest is not compared: the run that was started from may have been trained further.
    same = then and now and then["run"] == now["run"]
    yield "start", then, then if same else now
    yield "settings", *({**c["settings"], "epochs": None} for c in (before, config))


def _difference(kind: str, before, now) -> str:
    """Say in words what differs first."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{kind} {now!r} where it was {before!r}"
    name = next(n for n in [*now, *before] if before.get(n) != now.get(n))
    if kind == "sha256":
        return f"another content of --{name}".replace("_", "-")
    return f"{name}={now.get(name)!r} where it was {before.get(name)!r}"


def load_model(path: str | Path, argument: str = "RUN") -> keras.Model:
    """Load the best model of a run folder, or the model of a checkpoint folder.

    Args:
        path: the folder.
        argument: how the user gave it, for messages.

    Raises:
        InputError: when the model is missing, damaged or not to be trusted.
    """
    import kerasrnn.models  # noqa: F401  (Keras finds a class only where it has been imported)

    file = Path(path) / MODEL
    if not file.exists():
        wanted = "a run folder with a trained model"
        raise InputError(argument, wanted, f"{path} without {MODEL}", "train it first")
    try:
        check_model(file)
        return keras.saving.load_model(file, safe_mode=True)
    except Untrusted:
        raise
    except Exception as error:  # a file that was tampered with may raise anything
        received = f"{file} ({first_line(error)[:200]})"
        raise InputError(argument, "a whole model", received, _advice(Path(path))) from error


def _advice(run: Path) -> str:
    """Say what the user can do about a damaged best model."""
    again = "copy it again, or train it again with --overwrite"
    if (run / FOLDER).is_dir() and any((run / FOLDER).glob("[0-9]*")):
        return f"{again}; `kerasrnn export {run} --checkpoint last` takes the last checkpoint"
    return again


def load_chosen(run: str | Path, checkpoint: str = BEST) -> keras.Model:
    """Load the best model of a run, or the model of its last checkpoint.

    Args:
        run: the run folder.
        checkpoint: one of `CHECKPOINTS`.

    Raises:
        InputError: when it is missing or damaged.
    """
    if checkpoint not in CHECKPOINTS:
        expected = " or ".join(CHECKPOINTS)
        raise InputError("--checkpoint", expected, checkpoint, "choose one of them")
    if checkpoint == BEST:
        return load_model(run)
    last = newest_checkpoint(Path(run))
    if last is None:
        raise InputError("RUN", "a run folder with a checkpoint", run, "train it first")
    return load_model(last.folder)
