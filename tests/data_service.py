"""A tf.data service of other processes on loopback, none outliving the test."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.workers import environment, free_ports

SERVE = """
import tensorflow as tf
service = tf.data.experimental.service
server = service.{server}(service.{config})
print("up", flush=True)
server.join()
"""
DISPATCHER = "DispatcherConfig(port={port})"
WORKER = (
    'WorkerConfig("127.0.0.1:{dispatcher}", worker_address="127.0.0.1:{port}", port={port}, '
    "heartbeat_interval_ms=200)"
)


@dataclass
class Served:
    """The dispatcher's address, and the processes."""

    address: str
    dispatcher: subprocess.Popen
    workers: list[subprocess.Popen]


def _process(server: str, config: str) -> subprocess.Popen:
    command = [sys.executable, "-c", SERVE.format(server=server, config=config)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, env=environment(), **pipes)


@contextlib.contextmanager
def serving(count: int) -> Iterator[Served]:
    """A dispatcher and `count` workers, all up; killed at the end."""
    first, *ports = free_ports(1 + count)
    processes = []
    try:
        processes.append(_process("DispatchServer", DISPATCHER.format(port=first)))
        assert processes[0].stdout.readline() == "up\n"
        for port in ports:
            config = WORKER.format(dispatcher=first, port=port)
            processes.append(_process("WorkerServer", config))
        for process in processes[1:]:
            assert process.stdout.readline() == "up\n"
        yield Served(f"127.0.0.1:{first}", processes[0], processes[1:])
    finally:
        for process in processes:
            process.kill()
            process.wait()
