"""Read TF_CONFIG, and wait for all workers with a time limit before TensorFlow joins them.

TensorFlow itself waits for the other workers without a limit, and no signal can interrupt it.
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
from kerasrnn.compat.tensorflow import configure_coordination, has_started

JOBS = ("chief", "worker")  # in TensorFlow's order of tasks
WAIT_SECONDS = 300.0  # the most to wait until all workers have started
HEARTBEAT_SECONDS = 20.0  # a worker without a sign of life for so long counts as dead
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", …]}, "task": {"type": "worker", "index": 0}}'
GO = b"go\n"


@dataclass(frozen=True)
class Cluster:
    """The workers of one training.

    Attributes:
        addresses: "host:port" of every worker, the chief first.
        index: the index of this process in `addresses`.
        chiefs: 1 where the first worker has the job "chief", else 0; the others
            have the job "worker".
    """

    addresses: tuple[str, ...]
    index: int
    chiefs: int = field(default=0, compare=False)

    @classmethod
    def from_environment(cls) -> Cluster | None:
        """Return the cluster that TF_CONFIG describes, or None when TF_CONFIG is not set.

        Raises:
            InputError: when TF_CONFIG is not as TensorFlow documents it, has jobs other than
                "chief" and "worker", or more than one chief.
        """
        text = os.environ.get("TF_CONFIG", "")
        if not text:
            return None
        try:
            config = json.loads(text)
            cluster, task = config["cluster"], config["task"]
            chiefs = len(cluster.get("chief", []))
            # TensorFlow counts each job from 0; here the workers follow the chief.
            index = int(task["index"]) + (0, chiefs)[JOBS.index(task["type"])]
            addresses = tuple(address for job in JOBS for address in cluster.get(job, []))
            for address in addresses:
                _host_and_port(address)
            wrong = not 0 <= index < len(addresses) or set(cluster) - {*JOBS}
            wrong = wrong or len(set(addresses)) < len(addresses) or chiefs > 1
        except (AttributeError, KeyError, TypeError, ValueError):
            wrong = True
        if wrong:
            raise InputError("TF_CONFIG", f"JSON like {EXAMPLE}", text, "correct it")
        return cls(addresses, index, chiefs)

    def index_of(self, job: str, task: int) -> int:
        """Return the index of the worker that TensorFlow names by job and task."""
        return task + (self.chiefs if job == "worker" else 0)

    @property
    def jobs(self) -> dict[str, int]:
        """The number of workers of each TensorFlow job, the chief's job first."""
        counts = zip(JOBS, (self.chiefs, len(self.addresses) - self.chiefs), strict=True)
        return {job: count for job, count in counts if count}

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief, the worker that writes files."""
        return self.index == 0


def _host_and_port(address: str) -> tuple[str, int]:
    """Split "host:port" (ValueError when it has no port)."""
    host, port = address.rsplit(":", 1)
    return host, int(port)


def join(
    cluster: Cluster, wait: float = WAIT_SECONDS, heartbeat: float = HEARTBEAT_SECONDS
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Wait for all workers and return their strategy.

    Call it before TensorFlow runs its first operation.

    Args:
        cluster: the workers.
        wait: the most seconds to wait until all workers have started.
        heartbeat: seconds without a sign of a worker after which the others stop.

    Raises:
        InputError: when a worker does not start in time, or TensorFlow has run an operation.
    """
    if has_started():
        raise InputError(
            "strategy", "several workers before TensorFlow's first operation", "them after it",
            "make the strategy first",
        )  # fmt: skip
    meet(cluster, wait)
    configure_coordination(cluster.jobs, wait, heartbeat)
    # If a worker dies at this moment, the others wait for it inside TensorFlow, where no signal
    # reaches them. The timer of `faulthandler` has its own thread and ends the process.
    faulthandler.dump_traceback_later(wait, exit=True, file=sys.__stderr__)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        faulthandler.cancel_dump_traceback_later()


def meet(cluster: Cluster, seconds: float) -> None:
    """Wait until every worker of the cluster has started.

    The other workers connect to the port of the first worker, send their index, and wait for its
    answer `GO`. TensorFlow uses the same port afterwards.

    Args:
        cluster: the workers.
        seconds: the most to wait.

    Raises:
        InputError: when workers did not start in time; the message names them.
    """
    deadline = time.monotonic() + seconds
    others = f"{len(cluster.addresses) - 1} other workers" if cluster.is_chief else "the first one"
    print(f"waiting for {others}, {seconds:.0f} seconds at most", file=sys.stderr, flush=True)
    if cluster.is_chief:
        _wait_for_workers(cluster, deadline, seconds)
    else:
        _wait_for_chief(cluster, deadline, seconds)


def _seconds_left(deadline: float) -> float:
    """Return the seconds until the deadline, above 0 because a timeout of 0 means no waiting."""
    return max(deadline - time.monotonic(), 0.01)


def _wait_for_workers(cluster: Cluster, deadline: float, seconds: float) -> None:
    """Accept the connections of all other workers, then answer them."""
    missing, connections = set(range(1, len(cluster.addresses))), []
    address = cluster.addresses[0]
    try:
        server = socket.create_server(("", _host_and_port(address)[1]))
    except OSError as error:
        received = f"{address} ({error.strerror})"
        raise InputError("TF_CONFIG", "a free port", received, "stop what uses it") from error
    with server:
        while missing:
            server.settimeout(_seconds_left(deadline))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                raise _missing_workers(cluster, missing, seconds) from None
            connections.append(connection)
            connection.settimeout(1.0)  # a stranger on this port must not hold up the workers
            missing.discard(_received_index(connection))
        # Only now, because a worker that is answered goes on without asking again.
        for connection in connections:
            with connection:
                connection.sendall(GO)


def _received_index(connection: socket.socket) -> int | None:
    """Return the index that a worker sends, or None when something else has connected."""
    try:
        return int(connection.recv(16))
    except (OSError, ValueError):
        return None


def _wait_for_chief(cluster: Cluster, deadline: float, seconds: float) -> None:
    """Connect to the first worker, again and again until it answers."""
    chief = _host_and_port(cluster.addresses[0])
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(chief, _seconds_left(deadline)) as server:
                server.sendall(b"%d\n" % cluster.index)
                server.settimeout(_seconds_left(deadline))
                if server.recv(16) == GO:
                    return
        except OSError:  # the chief has not started yet
            pass
        time.sleep(0.2)
    raise _missing_workers(cluster, {0}, seconds)


def _missing_workers(cluster: Cluster, missing: set[int], seconds: float) -> InputError:
    """Return the error that names the workers that did not start."""
    names = ", ".join(f"worker {i} ({cluster.addresses[i]})" for i in sorted(missing))
    expected = f"all {len(cluster.addresses)} workers within {seconds:.0f} seconds"
    return InputError("TF_CONFIG", expected, f"no sign of {names}", "start all of them")
