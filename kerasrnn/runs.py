"""The run folder: what training leaves, and how the same command goes on.

`model.keras` best model, `config.json` everything that made it, `history.csv`, `samples.txt`,
`learning_curve.png`, `checkpoint/` where training stands.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras

from kerasrnn.checkpoints import MODEL, Checkpoint, newest
from kerasrnn.errors import InputError
from kerasrnn.files import check_writable, recover, remove, replacing

CONFIG = "config.json"


def find(
    path: str | Path, config: dict, warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Where the run that the same command began stands; None where it has not begun.

    Args:
        path: the run folder.
        config: what this command would train; must be plain JSON.
        warn: told of a damaged checkpoint.

    Raises:
        InputError: when the folder holds something else, a run of another command, or a
            finished run.
    """
    path = Path(path)
    recover(path / CONFIG)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    _same_command(path, read_config(path), config)
    found = newest(path, warn)
    if found is not None and found.progress.finished:
        raise InputError(
            "--out",
            "a new folder or an unfinished run",
            f"{path}, which is finished",
            "use --overwrite",
        )
    return found


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
    if overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / CONFIG).exists():
            raise InputError("--overwrite", "a run folder", path, "remove it yourself")
        for child in path.iterdir():  # by its config a run is known, so this goes last
            if child.name != CONFIG:
                remove(child)
        remove(path)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG).exists():
        with replacing(path / CONFIG) as file:
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def check_data(before: dict, now: dict) -> None:
    """Refuse data that changed while it was read: between two configs of a job (InputError)."""
    if now["data"] != before["data"]:
        expected = "files that stay as they are while they are read"
        raise InputError("data", expected, "some that changed", "give the same command again")


def read_config(path: str | Path) -> dict:
    """`config.json` of a run folder (InputError when it is none or is damaged)."""
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
            raise ValueError("no settings in it")
        return config
    except (OSError, ValueError) as error:
        raise InputError(
            "RUN",
            "a run folder with a readable config.json",
            f"{path} ({error})",
            "give another folder",
        ) from error


def _same_command(path: Path, before: dict, config: dict) -> None:
    for name, value in config.items():
        if name != "versions" and before.get(name) != value:
            changed = _changed(before.get(name), value)
            changed = changed if isinstance(value, dict) else f"{name} {changed}"
            raise InputError(
                "--out",
                f"the command that began {path}",
                changed,
                "use another --out, or --overwrite",
            )


def _changed(before, now) -> str:
    """The first setting that differs, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(n for n in {**before, **now} if before.get(n) != now.get(n))
        if name == "sha256":
            return "a text that has changed since"
        return f"{name}={now.get(name)!r} where it was {before.get(name)!r}"
    return f"{now!r} where it was {before!r}"


def load_model(path: str | Path) -> keras.Model:
    """The best model of a run (InputError when it is missing or damaged)."""
    import kerasrnn.models  # noqa: F401  (Keras finds a class only where it has been imported)

    file = Path(path) / MODEL
    if not file.exists():
        wanted = "a run folder with a trained model"
        raise InputError("RUN", wanted, f"{path} without {MODEL}", "train it first")
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("the file is damaged")
        return keras.saving.load_model(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        received = f"{file} ({reason})"
        raise InputError(
            "RUN", "a whole model", received, "use --overwrite to begin anew"
        ) from error
