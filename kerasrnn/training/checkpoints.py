"""Where training stands, on disk: the last few checkpoints of a run, each whole or not at all.

`RUN/checkpoint/EPOCH-BATCH/` holds `model.keras` with its optimizer, `state.npz`, `progress.json`
and `digests.json`, by which a damaged one is known; then the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import recover_all, replacing, unpacks_too_far

FOLDER, MODEL, STATE = "checkpoint", "model.keras", "state.npz"
PROGRESS, DIGESTS = "progress.json", "digests.json"
PARTS = re.compile(rf"{re.escape(MODEL)}|{re.escape(PROGRESS)}|\d+\.{re.escape(STATE)}")
KEEP = 2  # how many, so that there is one before a damaged one

# What the readers of a file that is damaged, or was made to do damage, raise.
DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RecursionError)
DAMAGE += (NotImplementedError, zipfile.BadZipFile, zlib.error)

State = dict[str, list[np.ndarray]]


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch, batch: the next batch to train on.
        rows: `history.csv` so far.
        finished: nothing is left to train.
        replicas: among which batches are dealt.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[dict] = field(default_factory=list)
    finished: bool = False
    replicas: int = 1

    @property
    def name(self) -> str:
        """Of its checkpoint; a later one sorts behind."""
        return f"{self.epoch:06d}-{self.batch:09d}"


@dataclass
class Checkpoint:
    """One checkpoint as it was read.

    Attributes:
        folder: with `model.keras` in it.
        progress: where training stood.
        states: of each worker, what it holds beside the model.
    """

    folder: Path
    progress: Progress
    states: list[State]


def packed(state: State) -> bytes:
    """Arrays by name as the bytes of an .npz file."""
    arrays = {f"{name}/{i}": a for name, group in state.items() for i, a in enumerate(group)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpacked(data: bytes) -> State:
    """What `packed` packed.

    >>> unpacked(packed({"seed": [np.array([1, 2])]}))
    {'seed': [array([1, 2])]}
    """
    state: State = {}
    _check_sizes(data)
    with np.load(io.BytesIO(data)) as arrays:
        for name in arrays.files:  # in the order in which they were written
            state.setdefault(name.split("/")[0], []).append(arrays[name])
    return state


def _check_sizes(data: bytes) -> None:
    """Refuse (ValueError) what was made to fill the memory; NumPy takes a size as it is said."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if unpacks_too_far(sum(member.file_size for member in members), len(data)):
            raise ValueError(f"{STATE} unpacks to far more than it is")
        for member in members:
            with archive.open(member) as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{STATE} says more than it has")


def write(
    run: Path,
    progress: Progress,
    save: Callable[[Path], None],
    states: list[bytes],
    keep: int = KEEP,
) -> None:
    """Write a checkpoint, then remove all but the last `keep`.

    Args:
        run: the run folder.
        progress: where training stands.
        save: writes the model to a path.
        states: `packed`, of each worker.
        keep: how many stay.
    """
    _check_folder(run)
    (run / FOLDER).mkdir(exist_ok=True)
    recover_all(run / FOLDER)
    with replacing(run / FOLDER / progress.name) as folder:
        folder.mkdir()
        save(folder / MODEL)
        for worker, state in enumerate(states):
            (folder / f"{worker}.{STATE}").write_bytes(state)
        (folder / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        (folder / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
    names = _names(run)
    here = names.index(progress.name) + 1
    for name in [*names[: max(here - keep, 0)], *names[here:]]:  # behind it: damaged, or undone
        shutil.rmtree(run / FOLDER / name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_folder(run: Path) -> None:
    """Refuse a link (InputError): what lies there is removed in time, and must be ours."""
    if (run / FOLDER).is_symlink():
        received = f"{run / FOLDER}, a link"
        raise InputError("RUN", "a folder of checkpoints", received, "put what it leads to there")


def _names(run: Path) -> list[str]:
    """Of all checkpoints, the oldest first; one that is being written is none."""
    _check_folder(run)
    folders = (run / FOLDER).glob("[0-9]*")
    return sorted(path.name for path in folders if path.is_dir())


def newest(run: Path, warn: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """The last checkpoint that is whole; None when there never was one.

    Args:
        run: the run folder.
        warn: told of each that is damaged.

    Raises:
        InputError: when there are checkpoints and none is whole.
    """
    names = _names(run)
    for name in reversed(names):
        folder = run / FOLDER / name
        try:
            return _read(folder)
        except DAMAGE as error:
            reason = error
            warn(f"the checkpoint {folder} is damaged ({reason}); the one before it is used")
    if names:
        received = f"{run / FOLDER} ({reason})"
        raise InputError("RUN", "a whole checkpoint", received, "use --overwrite to begin anew")
    return None


def read_progress(run: Path) -> Progress | None:
    """Where a run stands; None where it has no checkpoint."""
    checkpoint = newest(run)
    return None if checkpoint is None else checkpoint.progress


def _read(folder: Path) -> Checkpoint:
    digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    for name, digest in dict(digests).items():
        if not PARTS.fullmatch(name):
            raise ValueError(f"{DIGESTS} names {name!r}")
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    progress = Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
    if any(type(n) is not int for n in (progress.epoch, progress.batch, progress.replicas)):
        raise ValueError(f"{PROGRESS} has no numbers")
    if any(not isinstance(row, dict) for row in progress.rows):
        raise ValueError(f"{PROGRESS} has no rows")
    count = sum(name.endswith(STATE) for name in digests)
    states = [unpacked((folder / f"{i}.{STATE}").read_bytes()) for i in range(count)]
    return Checkpoint(folder, progress, states)
