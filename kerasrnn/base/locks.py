"""One process at a time in a folder: a lock that ends with the process that holds it."""

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
HELD = (errno.EACCES, errno.EAGAIN)
NONE = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class _NoLocks(OSError):
    """The disk or the system has no locks."""


@contextlib.contextmanager
def locked(
    folder: str | Path, argument: str = "--out", warn: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold `folder`, which is made, alone; a second process is refused at once.

    The lock is `flock` on `folder/.lock`, which says who holds it. The system drops it when the
    process ends, however it ends, so what `kill -9` leaves holds nobody up. It holds between
    processes of one machine on any local disk; between machines on NFS 4, on NFS 3 with its lock
    daemon, and on Lustre mounted with `flock`. On other network disks it may hold within one
    machine only. Where there are no locks at all, and on Windows, `warn` says so.

    Args:
        folder: removed again when nothing is in it at the end and it was not there before.
        argument: what the user called it.
        warn: told when nothing can be locked.

    Raises:
        InputError: when another process holds it, or it cannot be written.
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
        if file is not None:  # removed while it is held: who opened it sees that it is gone
            (folder / LOCK).unlink(missing_ok=True)
            os.close(file)
        if not was_there and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _open(path: Path, argument: str) -> int:
    """The descriptor that holds the lock."""
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
            holder = os.pread(file, 1000, 0).decode(errors="replace") or "another process"
            os.close(file)
            if error.errno in NONE:
                raise _NoLocks from error
            if error.errno not in HELD:
                raise
            expected = "a folder that no other process trains in"
            received = f"{path.parent}, where {holder} trains"
            step = "wait until it ends, or give another"
            raise InputError(argument, expected, received, step) from None
        os.close(file)  # its holder removed it between our two steps


def _is_still(file: int, path: Path) -> bool:
    """Whether the open file is the one that has this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
