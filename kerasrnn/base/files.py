"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError

BEGINNINGS = (".partial.", ".before.")  # of what `replacing` writes, and of what it replaces


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; it takes the place of `path` when the block ends well.

    Works for a file and, where `path` is a folder or does not exist, for a folder. The suffix
    stays, because Keras chooses a format by it.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(target) as beside:
    ...     _ = beside.write_text("whole")
    >>> target.read_text(), [p.name for p in target.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    path = Path(path)
    recover(path)
    beside, before = _names(path)
    try:
        with naming(path):
            yield beside
        if path.is_dir():
            # A folder cannot be replaced in one step: `recover` knows the moment between.
            os.rename(path, before)
        os.replace(beside, path)
    finally:
        recover(path)


@contextlib.contextmanager
def creating(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write a file to, which becomes `path` unless another process was
    first; for files that several processes may make at once, all alike.

    What a kill leaves, `remove_abandoned` removes.
    """
    path = Path(path)
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    beside = path.with_name(f".partial.{owner}.{path.name}")
    try:
        with naming(path):
            yield beside
        try:
            os.link(beside, path)  # unlike a renaming it never replaces what others read already
        except FileExistsError:
            pass
        except OSError:  # a disk without links
            if not path.exists():
                os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_abandoned(folder: str | Path) -> None:
    """Remove what processes of this machine that were killed left of `creating`."""
    for path in Path(folder).glob(f".partial.{socket.gethostname()}-*"):
        process = int(path.name.removeprefix(f".partial.{socket.gethostname()}-").split("-")[0])
        if not _is_running(process):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def recover(path: str | Path) -> None:
    """Undo what a kill in the middle of `replacing(path)` left."""
    path = Path(path)
    beside, before = _names(path)
    if os.path.lexists(before) and not path.exists():
        os.rename(before, path)
    for left in (beside, before):
        remove(left)


def recover_all(folder: Path) -> None:
    """`recover` of everything in a folder that a kill left half-written; hidden files of others,
    as a desktop makes them, stay."""
    for beginning in BEGINNINGS:
        for left in folder.glob(f"{beginning}?*"):
            recover(folder / left.name.removeprefix(beginning))


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _names(path: Path) -> tuple[Path, Path]:
    """Where the new is written, and where an old folder stands for a moment."""
    beside, before = (path.with_name(f"{beginning}{path.name}") for beginning in BEGINNINGS)
    return beside, before


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An OSError that does not say of which file, as that of a full disk, is one of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def check_writable(path: str | Path, argument: str = "--out") -> None:
    """Refuse a folder that stands and cannot be written into (InputError)."""
    if Path(path).is_dir() and not os.access(path, os.W_OK | os.X_OK):
        expected = "a folder that can be written"
        raise InputError(argument, expected, path, "change its permissions, or give another")


TIMES, SPARE = 10, 1 << 20  # a file may unpack to so many times its size, and so many bytes more


def unpacks_too_far(unpacked: int, size: int) -> bool:
    """Whether a file of `size` bytes was made to fill memory or disk: ours are not compressed."""
    return unpacked > TIMES * size + SPARE


Stamp = tuple[int, int]
AGAIN = "the same command writes it again"


def stamp(path: str | Path) -> Stamp:
    """Size and time of the last change: by these a file that changes is known."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def check_unchanged(
    path: str | Path,
    before: Stamp | None,
    argument: str,
    next_step: str = AGAIN,
    expected: str = "a file that stays as it was written",
) -> None:
    """Refuse a file that is no longer as its stamp says (InputError); None is not looked at."""
    if before is None:
        return
    try:
        fault = "" if stamp(path) == before else "changed since"
    except OSError as error:
        fault = error.strerror
    if fault:
        received = f"{path} ({fault})"
        raise InputError(argument, expected, received, next_step)


@contextlib.contextmanager
def staging(path: str | Path, argument: str = "--out") -> Iterator[Path]:
    """An empty folder on the disk where `path`, which is what `argument` says, will be; removed at
    the end."""
    folder = Path(path).absolute().with_name(f".staging.{Path(path).name}")
    check_writable(path, argument)
    try:
        if folder.exists():  # a kill left it
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            argument, "a place that can be written", f"{path} ({error.strerror})", "give another"
        ) from error
    try:
        with naming(path):
            yield folder
    finally:
        if folder.exists():  # it may have been moved to its place
            shutil.rmtree(folder)
