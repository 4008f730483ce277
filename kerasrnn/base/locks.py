"""Locks a folder for one process at a time. The lock ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import check_writable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
HELD = (errno.EACCES, errno.EAGAIN)  # another process holds the lock
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)  # no locks here


class _NoLocks(OSError):
    """The disk or the system has no locks."""


@contextlib.contextmanager
def lock_folder(
    folder: str | Path, argument: str = "--out", warn: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Lock `folder` for this process; a second process is refused at once.

    The lock is a `flock` on the file `folder/.lock`, which names the holder. The system releases it
    when the process ends, even by `kill -9`. It works between processes of one machine on any local
    disk. Between machines it works on NFS 4, on NFS 3 with its lock daemon, and on Lustre mounted
    with `flock`. On other network disks it may work within one machine only. Where nothing can be
    locked, as on Windows, `warn` is called and the block runs without a lock.

    Args:
        folder: created if missing, and then removed at the end if it is empty.
        argument: the user's name for the folder, in error messages.
        warn: called with a text when nothing can be locked.

    Raises:
        InputError: when another process holds the lock, or the folder cannot be written.
    """
    folder = Path(folder)
    check_writable(folder, argument)
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(folder / LOCK, argument)
    except _NoLocks:
        warn(f"{folder}: this disk has no locks; see that nothing else writes there")
        file = None
    except OSError as error:
        received = f"{folder} ({error.strerror})"
        raise InputError(
            argument, "a place that can be written", received, "give another"
        ) from error
    try:
        yield
    finally:
        if file is not None:
            # Removed while locked: a process that opened the file before this, and locks it after,
            # sees in `_open` that the file has lost its name, and tries again.
            (folder / LOCK).unlink(missing_ok=True)
            os.close(file)
        if not was_there and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _open(path: Path, argument: str) -> int:
    """Lock the file `path`: its descriptor, which holds the lock."""
    if fcntl is None:
        raise _NoLocks
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, path):
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return file
        except OSError as error:
            # The holder wrote its name into the file, unless it has only just taken the lock.
            holder = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            os.close(file)
            if error.errno in UNSUPPORTED:
                raise _NoLocks from error
            if error.errno not in HELD:
                raise
            expected = "a folder that no other process trains in"
            received = f"{path.parent}, where {holder} trains"
            step = "wait until it ends, or give another"
            raise InputError(argument, expected, received, step) from None
        os.close(file)  # its holder removed it between our `open` and our `flock`


def _is_still(file: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
