"""Writes files so that they appear whole or not at all, even if the process is killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError

# Beginnings of the names that `replacing` gives to the new file and to the folder it replaces.
BEGINNINGS = (".partial.", ".before.")


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; it replaces `path` when the block ends without error.

    It works for a file, and for a folder where `path` is a folder or does not exist. The name keeps
    the suffix of `path`, because Keras chooses the format by it.

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
            # A full folder cannot be replaced in one step. After a kill between the two steps
            # `recover` puts the old folder back.
            os.rename(path, before)
        os.replace(beside, path)
    finally:
        recover(path)


@contextlib.contextmanager
def creating(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write a file to; it becomes `path` unless `path` exists by then.

    It is for files that several processes may write at once, all with the same contents.
    `remove_abandoned` removes what a killed process leaves.
    """
    path = Path(path)
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    beside = path.with_name(f".partial.{owner}.{path.name}")
    try:
        with naming(path):
            yield beside
        try:
            os.link(beside, path)  # unlike a rename it never replaces a file that others read
        except FileExistsError:
            pass
        except OSError:  # a disk without hard links
            if not path.exists():
                os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def remove_abandoned(folder: str | Path) -> None:
    """Remove the files that killed processes of this machine left in the middle of `creating`."""
    for path in Path(folder).glob(f".partial.{socket.gethostname()}-*"):
        process = int(path.name.removeprefix(f".partial.{socket.gethostname()}-").split("-")[0])
        if not _is_running(process):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(process, 0)  # signal 0 does nothing but check
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, for another user
        return True
    return True


def recover(path: str | Path) -> None:
    """Put `path` back as it was, after a kill in the middle of `replacing(path)`."""
    path = Path(path)
    beside, before = _names(path)
    # Killed between the two renames of a folder: the old one comes back.
    if os.path.lexists(before) and not path.exists():
        os.rename(before, path)
    for leftover in (beside, before):
        remove(leftover)


def recover_all(folder: Path) -> None:
    """`recover` everything in a folder that a kill left half-written.

    Other hidden files, such as a desktop writes, stay.
    """
    for beginning in BEGINNINGS:
        for leftover in folder.glob(f"{beginning}?*"):
            recover(folder / leftover.name.removeprefix(beginning))


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def _names(path: Path) -> tuple[Path, Path]:
    """The name under which the new is written, and that of the old folder for a moment."""
    beside, before = (path.with_name(f"{beginning}{path.name}") for beginning in BEGINNINGS)
    return beside, before


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name `path` in an OSError that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def check_writable(path: str | Path, argument: str = "--out") -> None:
    """Raise InputError when `path` is a folder that cannot be written into."""
    if Path(path).is_dir() and not os.access(path, os.W_OK | os.X_OK):
        expected = "a folder that can be written"
        raise InputError(argument, expected, path, "change its permissions, or give another")


TIMES, SPARE = 10, 1 << 20  # a file may unpack to TIMES its size plus SPARE bytes


def unpacks_too_far(unpacked: int, size: int) -> bool:
    """Whether a file of `size` bytes unpacks to far more, as if made to fill memory or disk.

    Our files are not compressed.
    """
    return unpacked > TIMES * size + SPARE


Stamp = tuple[int, int]  # size in bytes, time of the last change in nanoseconds
AGAIN = "the same command writes it again"


def stamp(path: str | Path) -> Stamp:
    """The `Stamp` of a file. It differs after the file was changed."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def check_unchanged(
    path: str | Path,
    before: Stamp | None,
    argument: str,
    next_step: str = AGAIN,
    expected: str = "a file that stays as it was written",
) -> None:
    """Raise InputError when a file is gone or differs from its stamp; None checks nothing."""
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
    """Give an empty folder beside `path`, on the same disk; it is removed at the end.

    Raises:
        InputError: about `argument`, when the folder cannot be written.
    """
    folder = Path(path).absolute().with_name(f".staging.{Path(path).name}")
    check_writable(path, argument)
    try:
        if folder.exists():  # a killed process left it
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
        if folder.exists():  # unless the caller moved it to its place
            shutil.rmtree(folder)
