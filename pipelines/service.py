"""Batches read by the workers of tf.data's service, on this machine or others.

What a Python generator yields no other process can read: its worker says "Could not find callback
with key=pyfunc_0", by dataset id too. So NumPy here only plans which bytes make which batch, and
graph operators read them: any worker of TensorFlow's can that sees the files at the same path.

Workers come and go, so each batch has its number, is given to one of them (`DYNAMIC`), and is put
back in its place here: what a model is trained on does not depend on the service.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dataset import generated

Stage = Callable[[tf.data.Dataset], tf.data.Dataset]
AHEAD = 8  # batches that came and are not asked for yet
CONNECT = 10.0  # seconds
WAIT = 60.0


class ServiceLost(ConnectionError):
    """The data service gives nothing any more; training cannot go on without it."""

    def __init__(self, address: str, what: str):
        hint = "see to its workers and start again with the same command"
        super().__init__(f"lost the data service at {address}: {what}; {hint}")


@dataclass(frozen=True)
class Service:
    """Where the dispatcher of a tf.data service listens.

    Attributes:
        address: "host:port".
        wait: seconds for a batch to come.
    """

    address: str
    wait: float

    @classmethod
    def at(cls, address: str) -> Service:
        """The service at "host:port" or "grpc://host:port".

        Raises:
            InputError: when the address is neither, or nobody listens there.

        >>> Service.at("far away")
        Traceback (most recent call last):
        kerasrnn.InputError: --data-service: expected host:port, got far away; correct it
        """
        plain = address.removeprefix("grpc://")
        host, _, port = plain.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError("--data-service", "host:port", address, "correct it")
        service = cls(plain, WAIT)
        try:
            service.connect()
        except OSError as error:
            expected, received = "a dispatcher that listens", f"{plain} ({error})"
            raise InputError("--data-service", expected, received, "start it first") from error
        return service

    def connect(self) -> None:
        """Connects to the dispatcher, and ends the connection.

        Raises:
            OSError: when nobody listens.
        """
        host, _, port = self.address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()

    def listens(self) -> bool:
        """Whether a dispatcher listens now."""
        try:
            self.connect()
        except OSError:
            return False
        return True

    def read(self, epoch: Callable[[], Stage], numbers: range, signature) -> tf.data.Dataset:
        """The batches of these numbers, in their order, read by the service's workers.

        Args:
            epoch: called when a pass begins; gives what makes of a dataset of numbers, int64, one
                of (number, batch), by graph operators alone.
            signature: of a batch, tensor specs.
        """

        def generate():
            yield from _in_order(_Remote(self, epoch(), numbers), self, numbers)

        return generated(generate, len(numbers), signature)


class _Remote:
    """A thread that hears the service; TensorFlow itself waits for it without a limit."""

    def __init__(self, service: Service, read: Stage, numbers: range):
        self.came, self.left = queue.Queue(AHEAD), threading.Event()
        args = (service, read, numbers)
        threading.Thread(target=self._hear, args=args, daemon=True).start()

    def _hear(self, service: Service, read: Stage, numbers: range) -> None:
        # TensorFlow asks a dispatcher that is away again and again, ever more seldom, and a process
        # cannot end meanwhile: it is asked only where somebody listens.
        while not service.listens():
            if self.left.wait(0.5):
                return
        try:
            for number, batch in _distributed(service, read, numbers):
                if not self._give((int(number), batch)):
                    return
            self._give(None)
        except Exception as error:  # told in the other thread
            self._give(error)

    def _give(self, item) -> bool:
        while not self.left.is_set():
            try:
                self.came.put(item, timeout=1.0)
                return True
            except queue.Full:
                pass
        return False


def _distributed(service: Service, read: Stage, numbers: range) -> tf.data.Dataset:
    """(number, batch), in whatever order the workers have them."""
    with tf.device("CPU:0"):
        dataset = read(tf.data.Dataset.range(numbers.start, numbers.stop))
        mode = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        distribute = tf.data.experimental.service.distribute
        return dataset.apply(distribute(mode, f"grpc://{service.address}"))


def read_by(
    service: Service | None, generate: Callable, epoch: Callable, numbers: range, signature
) -> tf.data.Dataset:
    """What the service reads, as in `Service.read`; without one what `generate` yields."""
    if service is None:
        return generated(generate, len(numbers), signature)
    return service.read(epoch, numbers, signature)


def _in_order(remote: _Remote, service: Service, numbers: range) -> Iterator:
    """The batches by their numbers; each has its limit."""
    early = {}
    try:
        for number in numbers:
            until = time.monotonic() + service.wait
            while number not in early:
                try:
                    item = remote.came.get(timeout=max(until - time.monotonic(), 0.01))
                except queue.Empty:
                    what = f"batch {number + 1} did not come within {service.wait:g} seconds"
                    raise ServiceLost(service.address, what) from None
                if item is None:
                    what = f"a worker that had batch {number + 1} is gone"
                    raise ServiceLost(service.address, what)
                if isinstance(item, Exception):
                    raise ServiceLost(service.address, _line(item)) from item
                early[item[0]] = item[1]
            yield early.pop(number)
    finally:
        remote.left.set()


def _line(error: Exception) -> str:
    """The last part of TensorFlow's message: what a worker said."""
    return " ".join(str(getattr(error, "message", error)).split())[-300:]
