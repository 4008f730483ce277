"""One process at a time: real processes, one of which is killed."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys

import pytest

from kerasrnn.base import locks
from kerasrnn.base.errors import InputError
from kerasrnn.base.locks import LOCK, lock_folder
from tests.workers import environment

HOLD = """
import sys
from kerasrnn.base.locks import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(folder):
    """A process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(), **pipes) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path):
    run = tmp_path / "run"
    with held_elsewhere(run) as process:
        with pytest.raises(InputError) as error, lock_folder(run):
            pass
        assert str(error.value) == (
            f"--out: expected a folder that no other process trains in, got {run}, where process "
            f"{process.pid} on {socket.gethostname()} trains; wait until it ends, or give another"
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (run / LOCK).exists()  # a kill leaves it
        with lock_folder(run):
            assert (run / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
            with pytest.raises(InputError, match=f"process {os.getpid()} on"), lock_folder(run):
                pass  # nor twice in one process
    assert run.exists() and not (run / LOCK).exists()


def test_a_folder_that_stays_empty_goes_again(tmp_path):
    with lock_folder(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path / "run"):
        (tmp_path / "run" / "config.json").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_lock_that_its_holder_just_removed_is_not_enough(tmp_path, monkeypatch):
    """Between opening and locking the first holder ends and a third process makes a new file."""
    flock, taken = locks.fcntl.flock, []

    def slow(file, how):
        if not taken:
            (tmp_path / LOCK).unlink()
            taken.append(lock_folder(tmp_path))
            taken[0].__enter__()
        flock(file, how)

    monkeypatch.setattr(locks.fcntl, "flock", slow)
    with pytest.raises(InputError, match="no other process trains in"), lock_folder(tmp_path):
        pass
    taken[0].__exit__(None, None, None)


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    said = []
    monkeypatch.setattr(locks.fcntl, "flock", none)
    with lock_folder(tmp_path, warn=said.append):
        pass
    assert said == [f"{tmp_path}: this disk has no locks; see that nothing else writes there"]
