"""The run folder: what training leaves, and how the same command goes on.

`model.keras` best model, `config.json` everything that made it, `history.csv`, `samples.txt`,
`learning_curve.png`, `checkpoint/` where training stands.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import keras

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.base.files import (
    Stamp,
    check_unchanged,
    check_writable,
    recover,
    remove,
    replacing,
    stamp,
)
from kerasrnn.base.locks import LOCK
from kerasrnn.pipelines.reading import fingerprint
from kerasrnn.tasks.trust import Untrusted, check_model
from kerasrnn.training.checkpoints import FOLDER, MODEL, Checkpoint, Progress, newest

CONFIG = "config.json"
CHECKPOINTS = BEST, LAST = ("best", "last")
FORMAT = 1  # of config.json; another number is refused, nothing older is carried along
OTHER_VERSION = "use that version of kerasrnn, or train again"
LENGTHS = "epochs_before"  # what was asked for before more was
TRAINED_ON = "the data that it was trained on"


def find(
    path: str | Path, config: dict, warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Where the run that the same command began stands; None where it has not begun.

    The command may ask for another number of epochs, more than are done.

    Args:
        path: the run folder.
        config: what this command would train; must be plain JSON.
        warn: told of a damaged checkpoint.

    Raises:
        InputError: when the folder holds something else, a run of another command, or a run with
            nothing left to train.
    """
    path = Path(path)
    recover(path / CONFIG)
    if not path.exists() or (path.is_dir() and not _inside(path)):
        return None
    before = read_config(path)
    _same_command(path, before, config)
    checkpoint = newest(path, warn)
    if checkpoint is not None:
        _check_epochs(path, checkpoint.progress, before["settings"], config["settings"])
    return checkpoint


def _check_epochs(path: Path, progress: Progress, before: dict, now: dict) -> None:
    """Refuse a run with nothing left to train (InputError); `progress` is made to go on."""
    done, epochs = progress.epoch, now["epochs"]
    if epochs < done + bool(progress.batch):
        received = f"{epochs}, with {done} done in {path}"
        what = "give more, or use --overwrite"
        raise InputError("--epochs", "as many epochs as are done, or more", received, what)
    early = progress.finished and epochs <= before["epochs"]  # it may have stopped before
    if early or epochs == done:
        raise InputError(
            "--out",
            "a new folder or a run with epochs left to train",
            f"{path}, which is finished after {done}",
            "raise --epochs, or use --overwrite",
        )
    progress.finished = False


def open_run(path: str | Path, config: dict, overwrite: bool) -> Path:
    """Make the run folder, or go into it when it stands.

    Args:
        path, config: as in `find`.
        overwrite: remove the run that stands there; nothing but a run is ever removed.

    Raises:
        InputError: when the folder cannot be written, or the one to overwrite is no run.
    """
    path = Path(path)
    check_writable(path)
    recover(path / CONFIG)
    if overwrite and path.exists() and (not path.is_dir() or _inside(path)):
        if not (path / CONFIG).exists():
            raise InputError("--overwrite", "a run folder", path, "remove it yourself")
        for child in _inside(path):  # by its config a run is known, so this goes last
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
    """The config of a run that goes on for another number of epochs, or with its data in another
    place."""
    lengths, epochs = before.get(LENGTHS, []), before["settings"]["epochs"]
    if epochs != config["settings"]["epochs"]:
        lengths = [*lengths, epochs]
    # Where it began stays, also when that run was trained further meanwhile.
    return {**config, "start": before.get("start"), **({LENGTHS: lengths} if lengths else {})}


def _write_config(path: Path, config: dict) -> None:
    with replacing(path / CONFIG) as file:
        text = json.dumps({"format": FORMAT, **config}, indent=2)
        file.write_text(text + "\n", encoding="utf-8")


def _without_versions(config: dict) -> dict:
    return {n: v for n, v in config.items() if n not in ("format", "versions", LENGTHS)}


def _inside(path: Path) -> list[Path]:
    """What is in a folder, but for the lock that this process holds on it."""
    return [child for child in path.iterdir() if child.name != LOCK]


def stamps(files: dict[str, str | list[str] | None]) -> dict[str, Stamp]:
    """Size and time of the files that exist, by path."""
    values = [v if isinstance(v, list) else [v] for v in files.values() if v]
    return {path: stamp(path) for some in values for path in some if Path(path).is_file()}


def check_data(before: dict[str, Stamp]) -> None:
    """Refuse data that changed while it was read (InputError): between its `stamps` and now."""
    for path, known in before.items():
        again = "give the same command again"
        check_unchanged(path, known, "data", again, "a file that stays as it is while it is read")


def digests(files: dict[str, str | list[str] | None]) -> dict[str, str]:
    """SHA-256 of files by what they are for; None is left out.

    Raises:
        InputError: about `--NAME` when one cannot be read.
    """
    paths = {name: [v] if isinstance(v, str) else v for name, v in files.items() if v}
    return {name: fingerprint(some, f"--{name}".replace("_", "-")) for name, some in paths.items()}


def resolved(files: dict[str, str | list[str] | None]) -> dict:
    """The same with absolute paths."""

    def absolute(value):
        if isinstance(value, list):
            return [absolute(one) for one in value]
        return value and str(Path(value).resolve())

    return {name: absolute(value) for name, value in files.items()}


def check_recorded(config: dict, names: Sequence[str], options: str) -> None:
    """Refuse data of a run that is gone or has changed since it was trained (InputError).

    Args:
        config: of the run.
        names: what is needed, keys of its files.
        options: with which the user gives other data.
    """
    data = config["data"]
    for name in names:
        value = data["files"].get(name)
        for path in [value] if isinstance(value, str) else value or []:
            if not Path(path).exists():
                received = f"{path}, which is gone"
                raise InputError("RUN", TRAINED_ON, received, f"give {options}")
        if value and digests({name: value})[name] != data["sha256"][name]:
            first = value if isinstance(value, str) else value[0]
            raise InputError("RUN", TRAINED_ON, f"{first}, changed since", f"give {options}")


def read_config(path: str | Path, argument: str = "RUN") -> dict:
    """`config.json` of a run folder, which the user gave as `argument`.

    Raises:
        InputError: when it is none or is damaged, or another version of kerasrnn wrote it in
            another format.
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
    """Which version of this package wrote a config, in words."""
    versions = config.get("versions")
    version = versions.get("kerasrnn") if isinstance(versions, dict) else None
    return f"written by kerasrnn {version}" if version else "written by an early kerasrnn"


def read_settings(run: str | Path, kind: type):
    """The settings of a run, as the dataclass `kind`.

    Raises:
        InputError: when the run cannot be read, or has a setting that `kind` has not.
    """
    config = read_config(run)
    return _of(kind, config["settings"], run, config)


def read_job(run: str | Path, kind: type, settings: type):
    """The job, of class `kind`, that a run folder is of; `settings` is the class of its settings.

    Raises:
        InputError: as `read_settings` does.
    """
    config = read_config(run)
    try:
        known = {**config["job"], **config["data"]["files"]}
    except (KeyError, TypeError) as error:
        received = f"{run} ({error} is missing)"
        expected = "a run folder with a readable config.json"
        raise InputError("RUN", expected, received, "give another folder") from error
    return _of(
        kind, {**known, "settings": read_settings(run, settings), "out": str(run)}, run, config
    )


def _of(kind: type, values: dict, run: str | Path, config: dict):
    """A dataclass with these values, of the types of its fields."""
    kinds = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = [n for n, v in values.items() if n not in fields or not _fits(v, kinds[n])]
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is field.default_factory
    ]
    if unknown or missing:
        what = f"{unknown[0]}={values[unknown[0]]!r}" if unknown else f"no {missing[0]}"
        received = f"{what} in {Path(run) / CONFIG}, {_writer(config)}"
        raise InputError("RUN", "settings that this version knows", received, OTHER_VERSION)
    return kind(**values)


def _fits(value, kind) -> bool:
    """Whether a value from JSON is of the type of a field."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    plain = tuple(get_origin(one) or one for one in kinds)
    return isinstance(value, (*plain, int) if float in plain else plain)


def sources(config: dict) -> list[str]:
    """The files and folders that a run was trained on, as its config names them; none where it is
    damaged."""
    data = config.get("data")
    files = data.get("files") if isinstance(data, dict) else None
    named = list(files.values()) if isinstance(files, dict) else []
    flat = [name for entry in named for name in (entry if isinstance(entry, list) else [entry])]
    return [name for name in flat if isinstance(name, str)]


def _same_command(path: Path, before: dict, config: dict) -> None:
    """Refuse a run of another command (InputError)."""
    for name, then, now in _compared(before, config):
        if then != now:
            expected = f"the command that began {path}"
            step = "use another --out, or --overwrite"
            raise InputError("--out", expected, _changed(name, then, now), step)


def _compared(before: dict, config: dict):
    """(name, value then, value now) of all that makes a command another one: not where data lies,
    nor the number of epochs."""
    for name in ("task", "job"):
        yield name, before.get(name), config.get(name)
    yield "sha256", before.get("data", {}).get("sha256"), config.get("data", {}).get("sha256")
    then, now = before.get("start"), config.get("start")
    same = then and now and then["run"] == now["run"]  # it may be trained further meanwhile
    yield "start", then, then if same else now
    yield "settings", *({**c["settings"], "epochs": None} for c in (before, config))


def _changed(kind: str, before, now) -> str:
    """The first thing that differs, in words."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{kind} {now!r} where it was {before!r}"
    name = next(n for n in [*now, *before] if before.get(n) != now.get(n))
    if kind == "sha256":
        return f"another content of --{name}".replace("_", "-")
    return f"{name}={now.get(name)!r} where it was {before.get(name)!r}"


def load_model(path: str | Path, argument: str = "RUN") -> keras.Model:
    """The best model of a run, which the user gave as `argument`, or that of a checkpoint.

    Raises:
        InputError: when it is missing, damaged or not to be trusted.
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
        raise InputError(argument, "a whole model", received, _instead(Path(path))) from error


def _instead(run: Path) -> str:
    """What can be done where the best model is damaged."""
    again = "copy it again, or train it again with --overwrite"
    if (run / FOLDER).is_dir() and any((run / FOLDER).glob("[0-9]*")):
        return f"{again}; `kerasrnn export {run} --checkpoint last` takes the last checkpoint"
    return again


def load_chosen(run: str | Path, checkpoint: str = BEST) -> keras.Model:
    """The best model of a run, or that of its last checkpoint.

    Args:
        run: the run folder.
        checkpoint: one of `CHECKPOINTS`.

    Raises:
        InputError: when it is missing or damaged.
    """
    if checkpoint not in CHECKPOINTS:
        known = " or ".join(CHECKPOINTS)
        raise InputError("--checkpoint", known, checkpoint, "choose one of them")
    if checkpoint == BEST:
        return load_model(run)
    last = newest(Path(run))
    if last is None:
        raise InputError("RUN", "a run folder with a checkpoint", run, "train it first")
    return load_model(last.folder)
