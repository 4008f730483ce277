"""The data of a run: known by its bytes, checked before it is read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged, stamp
from kerasrnn.pipelines.reading import fingerprint

TRAINED_ON = "the data that it was trained on"


def stamps(files: dict[str, str | list[str] | None]) -> dict[str, Stamp]:
    """Return size and modification time of the files that exist, by path."""
    groups = [v if isinstance(v, list) else [v] for v in files.values() if v]
    return {path: stamp(path) for group in groups for path in group if Path(path).is_file()}


def check_data(before: dict[str, Stamp]) -> None:
    """Refuse data that changed since its `stamps` were taken (InputError)."""
    expected = "a file that stays as it is while it is read"
    for path, first_stamp in before.items():
        check_unchanged(path, first_stamp, "data", "give the same command again", expected)


def digests(files: dict[str, str | list[str] | None]) -> dict[str, str]:
    """Return one SHA-256 for each name in `files`; a name without a file is left out.

    Raises:
        InputError: about `--NAME` when one of its files cannot be read.
    """
    groups = {name: [v] if isinstance(v, str) else v for name, v in files.items() if v}
    return {name: fingerprint(v, f"--{name}".replace("_", "-")) for name, v in groups.items()}


def resolved(files: dict[str, str | list[str] | None]) -> dict:
    """Return the same dict with absolute paths."""

    def absolute(value):
        if isinstance(value, list):
            return [absolute(path) for path in value]
        return value and str(Path(value).resolve())

    return {name: absolute(value) for name, value in files.items()}


def _recorded(config: dict, key: str) -> dict | None:
    """What a run's config says of its data: "files" or "sha256"; None where it is damaged."""
    data = config.get("data")
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else None


def sources(config: dict) -> list[str]:
    """List the files and folders that a run was trained on; empty where the config is damaged."""
    files = _recorded(config, "files")
    entries = list(files.values()) if files else []
    paths = [path for entry in entries for path in (entry if isinstance(entry, list) else [entry])]
    return [path for path in paths if isinstance(path, str)]


def check_recorded(config: dict, names: Sequence[str], options: str) -> None:
    """Refuse training data that is gone or has changed since the training (InputError).

    Args:
        config: of the run.
        names: the data that is needed, as keys of the files in `config`.
        options: the options by which the user can give other data, for the message.
    """
    files, hashes = _recorded(config, "files"), _recorded(config, "sha256")
    if files is None or hashes is None:
        received = "a config.json that does not say which it was"
        raise InputError("RUN", TRAINED_ON, received, f"give {options}")
    for name in names:
        value = files.get(name)
        for path in [value] if isinstance(value, str) else value or []:
            if not Path(path).exists():
                received = f"{path}, which is gone"
                raise InputError("RUN", TRAINED_ON, received, f"give {options}")
        if value and digests({name: value})[name] != hashes.get(name):
            first = value if isinstance(value, str) else value[0]
            raise InputError("RUN", TRAINED_ON, f"{first}, changed since", f"give {options}")
