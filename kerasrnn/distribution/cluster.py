"""Several machines as one strategy: TF_CONFIG, and waiting for each other with a limit.

TensorFlow's first worker waits for the others without one, deaf to every signal.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import time
from dataclasses import dataclass, field

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.compat.tensorflow import configure_coordination, started

JOBS = ("chief", "worker")  # in TensorFlow's order of tasks
WAIT_SECONDS = 300.0  # for all workers to come
HEARTBEAT_SECONDS = 20.0  # without a sign of life, after which a worker is dead
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", …]}, "task": {"type": "worker", "index": 0}}'
GO = b"go\n"


@dataclass(frozen=True)
class Cluster:
    """The machines of one training.

    Attributes:
        addresses: "host:port" of every worker, the chief first.
        index: which of them this process is.
        chiefs: how many of them have TensorFlow's job "chief", the others being "worker".
    """

    addresses: tuple[str, ...]
    index: int
    chiefs: int = field(default=0, compare=False)

    @classmethod
    def from_environment(cls) -> Cluster | None:
        """What TF_CONFIG says; None where it says nothing.

        Raises:
            InputError: when it is not as TensorFlow documents it, or has other than workers.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            return None
        try:
            config = json.loads(text)
            cluster, task = config["cluster"], config["task"]
            chiefs = len(cluster.get("chief", []))
            index = int(task["index"]) + (0, chiefs)[JOBS.index(task["type"])]
            found = cls(tuple(a for job in JOBS for a in cluster.get(job, [])), index, chiefs)
            [_place(address) for address in found.addresses]
            wrong = not 0 <= found.index < len(found.addresses) or set(cluster) - {*JOBS}
            wrong = wrong or len(set(found.addresses)) < len(found.addresses)
        except (AttributeError, KeyError, TypeError, ValueError):
            wrong = True
        if wrong:
            raise InputError("TF_CONFIG", f"JSON like {EXAMPLE}", text, "correct it")
        return found

    def index_of(self, job: str, task: int) -> int:
        """Which worker TensorFlow calls so."""
        return task + (self.chiefs if job == "worker" else 0)

    @property
    def jobs(self) -> dict[str, int]:
        """How many workers have each of TensorFlow's jobs, the chief's job first."""
        counts = zip(JOBS, (self.chiefs, len(self.addresses) - self.chiefs), strict=True)
        return {job: count for job, count in counts if count}

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.index == 0


def _place(address: str) -> tuple[str, int]:
    host, port = address.rsplit(":", 1)
    return host, int(port)


def join(
    cluster: Cluster, wait: float = WAIT_SECONDS, heartbeat: float = HEARTBEAT_SECONDS
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of all workers, once they are there; before any other work of TensorFlow.

    Args:
        cluster: who they are.
        wait: seconds for all to come.
        heartbeat: seconds without a sign of a worker after which the others stop.

    Raises:
        InputError: when they are not there in time, or TensorFlow has begun already.
    """
    if started():
        raise InputError(
            "strategy", "several workers before TensorFlow's first operation", "them after it",
            "make the strategy first",
        )  # fmt: skip
    meet(cluster, wait)
    configure_coordination(cluster.jobs, wait, heartbeat)
    # One that dies right here would leave the others in TensorFlow, which hears nothing.
    faulthandler.dump_traceback_later(wait, exit=True, file=sys.__stderr__)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        faulthandler.cancel_dump_traceback_later()


def meet(cluster: Cluster, seconds: float) -> None:
    """Come back when every worker of the cluster is here; the first hears the others at its port.

    Raises:
        InputError: naming who did not come within `seconds`.
    """
    until = time.monotonic() + seconds
    others = f"{len(cluster.addresses) - 1} other workers" if cluster.is_chief else "the first one"
    print(f"waiting for {others}, {seconds:.0f} seconds at most", file=sys.stderr, flush=True)
    if cluster.is_chief:
        _hear(cluster, until, seconds)
    else:
        _call(cluster, until, seconds)


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.01)


def _hear(cluster: Cluster, until: float, seconds: float) -> None:
    missing, heard = set(range(1, len(cluster.addresses))), []
    address = cluster.addresses[0]
    try:
        server = socket.create_server(("", _place(address)[1]))
    except OSError as error:
        received = f"{address} ({error.strerror})"
        raise InputError("TF_CONFIG", "a free port", received, "stop what uses it") from error
    with server:
        while missing:
            server.settimeout(_left(until))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                raise _absent(cluster, missing, seconds) from None
            heard.append(connection)
            connection.settimeout(1.0)
            missing.discard(_number(connection))
        for connection in heard:
            with connection:
                connection.sendall(GO)


def _number(connection: socket.socket) -> int | None:
    """Which worker calls; None when it is something else."""
    try:
        return int(connection.recv(16))
    except (OSError, ValueError):
        return None


def _call(cluster: Cluster, until: float, seconds: float) -> None:
    while time.monotonic() < until:
        try:
            with socket.create_connection(_place(cluster.addresses[0]), _left(until)) as server:
                server.sendall(b"%d\n" % cluster.index)
                server.settimeout(_left(until))
                if server.recv(16) == GO:
                    return
        except OSError:  # not there yet
            pass
        time.sleep(0.2)
    raise _absent(cluster, {0}, seconds)


def _absent(cluster: Cluster, missing: set[int], seconds: float) -> InputError:
    names = ", ".join(f"worker {i} ({cluster.addresses[i]})" for i in sorted(missing))
    expected = f"all {len(cluster.addresses)} workers within {seconds:.0f} seconds"
    return InputError("TF_CONFIG", expected, f"no sign of {names}", "start all of them")
