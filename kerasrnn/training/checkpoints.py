"""Write and read the checkpoints of a run.

The last two checkpoints are kept. A damaged one is skipped in favour of the one before it.
`RUN/checkpoint/EPOCH-BATCH/` holds `model.keras` with its optimizer, `N.state.npz` for worker N,
`progress.json`, and `digests.json`, the SHA-256 of the other files, which shows damage.
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
KEEP = 2  # checkpoints; with two there is still one when the last is damaged

# NumPy, zipfile and json raise these on a file that is damaged or was made to do damage.
DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RecursionError)
DAMAGE += (NotImplementedError, zipfile.BadZipFile, zlib.error)

State = dict[str, list[np.ndarray]]


@dataclass
class Progress:
    """The position of a training and its history.

    Attributes:
        epoch, batch: the next batch to train on, both counted from 0.
        rows: the rows of `history.csv` so far.
        finished: whether nothing is left to train.
        replicas: the number of replicas that share each batch.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[dict] = field(default_factory=list)
    finished: bool = False
    replicas: int = 1

    @property
    def name(self) -> str:
        """The folder name of the checkpoint; names sort by position."""
        return f"{self.epoch:06d}-{self.batch:09d}"


@dataclass
class Checkpoint:
    """One checkpoint, read from disk.

    Attributes:
        folder: the folder that holds its `model.keras`.
        progress: the position of the training.
        states: for each worker, the arrays that `model.keras` does not hold.
    """

    folder: Path
    progress: Progress
    states: list[State]


def pack(state: State) -> bytes:
    """Return arrays by name as the bytes of an .npz file."""
    arrays = {f"{name}/{i}": a for name, group in state.items() for i, a in enumerate(group)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> State:
    """Return the arrays that `pack` turned into bytes.

    Raises:
        ValueError: when an array is larger than the bytes allow.

    >>> unpack(pack({"seed": [np.array([1, 2])]}))
    {'seed': [array([1, 2])]}
    """
    state: State = {}
    _check_sizes(data)
    with np.load(io.BytesIO(data)) as arrays:
        for name in arrays.files:  # in the order of writing, so each list keeps its order
            state.setdefault(name.split("/")[0], []).append(arrays[name])
    return state


def _check_sizes(data: bytes) -> None:
    """Refuse an archive that was made to fill the memory (ValueError)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if unpacks_too_far(sum(member.file_size for member in members), len(data)):
            raise ValueError(f"{STATE} unpacks to far more than it is")
        for member in members:
            with archive.open(member) as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            # NumPy reserves memory for the shape in the header before it reads any data.
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
        progress: the position of the training.
        save: writes the model to a path.
        states: the state of each worker, as `pack` returns it.
        keep: the number of checkpoints to keep.

    Raises:
        InputError: when the folder of the checkpoints is a link.
    """
    _check_folder(run)
    (run / FOLDER).mkdir(exist_ok=True)
    recover_all(run / FOLDER)
    # The folder gets its name when it is complete, so a kill leaves no half-written checkpoint.
    with replacing(run / FOLDER / progress.name) as folder:
        folder.mkdir()
        save(folder / MODEL)
        for worker, state in enumerate(states):
            (folder / f"{worker}.{STATE}").write_bytes(state)
        (folder / PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        (folder / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
    names = _names(run)
    end = names.index(progress.name) + 1
    # Later checkpoints are removed too: they are damaged, or their steps were taken back.
    for name in [*names[: max(end - keep, 0)], *names[end:]]:
        shutil.rmtree(run / FOLDER / name)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_folder(run: Path) -> None:
    """Refuse a link as the folder of the checkpoints (InputError).

    Old checkpoints are removed, and behind a link that could be somebody else's data.
    """
    if (run / FOLDER).is_symlink():
        received = f"{run / FOLDER}, a link"
        raise InputError("RUN", "a folder of checkpoints", received, "put what it leads to there")


def _names(run: Path) -> list[str]:
    """Return the names of all complete checkpoints, the oldest first."""
    _check_folder(run)
    folders = (run / FOLDER).glob("[0-9]*")  # while one is written, its name begins with "."
    return sorted(path.name for path in folders if path.is_dir())


def newest_checkpoint(
    run: Path, warn: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """Return the last checkpoint that is not damaged, or None when the run has no checkpoint.

    Args:
        run: the run folder.
        warn: called with a message for each damaged checkpoint.

    Raises:
        InputError: when all checkpoints are damaged.
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
        advice = "copy it again, or train it again with --overwrite"
        raise InputError("RUN", "a whole checkpoint", received, advice)
    return None


def read_progress(run: Path) -> Progress | None:
    """Return the position of a run's training, or None when the run has no checkpoint."""
    checkpoint = newest_checkpoint(run)
    return None if checkpoint is None else checkpoint.progress


def _read(folder: Path) -> Checkpoint:
    """Read a checkpoint and check it; damage raises one of `DAMAGE`."""
    digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    for name, digest in dict(digests).items():
        if not PARTS.fullmatch(name):  # a path such as "../x" is not one of our files
            raise ValueError(f"{DIGESTS} names {name!r}")
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    progress = Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
    if any(type(n) is not int for n in (progress.epoch, progress.batch, progress.replicas)):
        raise ValueError(f"{PROGRESS} has no numbers")
    if any(not isinstance(row, dict) for row in progress.rows):
        raise ValueError(f"{PROGRESS} has no rows")
    count = sum(name.endswith(STATE) for name in digests)
    states = [unpack((folder / f"{i}.{STATE}").read_bytes()) for i in range(count)]
    return Checkpoint(folder, progress, states)
