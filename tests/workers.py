"""Real worker processes on loopback, each with its TF_CONFIG, none outliving its limit."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import ROOT

# A range of its own for each process of pytest-xdist, outside the one that systems choose from: a
# port is only free until somebody else takes it.
FIRST = 20_000 + 2_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
PORTS = itertools.cycle(range(FIRST, FIRST + 2_000))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, none of which was given out lately."""
    return list(itertools.islice(filter(is_free, PORTS), count))


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def tf_config(addresses: list[str], index: int, chief: bool = False) -> str:
    """TF_CONFIG of worker `index`; with `chief` the first has that job."""
    jobs = {"chief": addresses[:1], "worker": addresses[1:]} if chief else {"worker": addresses}
    task = {"type": "worker", "index": index}
    if chief:
        task = {"type": "worker", "index": index - 1} if index else {"type": "chief", "index": 0}
    return json.dumps({"cluster": jobs, "task": task})


@dataclass
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **quiet, **more}


@contextlib.contextmanager
def started(
    commands: list[list[str]],
    chief: bool = False,
    addresses: list[str] | None = None,
    **more: str,
) -> Iterator[list]:
    """One process for each command, together a cluster, on loopback where no addresses are given;
    what still runs at the end is killed."""
    addresses = addresses or [f"127.0.0.1:{port}" for port in free_ports(len(commands))]
    processes = []
    try:
        for index, command in enumerate(commands):
            config = tf_config(addresses, index, chief)
            env = environment(TF_CONFIG=config, **more)
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen(command, env=env, **pipes))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def finished(processes: list, seconds: float = 120) -> list[Done]:
    """How each of them ends, within the limit."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=seconds)
        found.append(Done(process.returncode, out, err))
    return found


def run(source: str, count: int, seconds: float = 120, chief: bool = False) -> list[Done]:
    """A Python program in `count` workers."""
    with started([[sys.executable, "-c", source]] * count, chief) as processes:
        return finished(processes, seconds)
