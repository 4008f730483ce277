"""Reads batches in this process, or with the workers of tf.data's service on any machine.

Another process cannot run a Python generator: its worker says "Could not find callback with
key=pyfunc_0", with a dataset id too. So NumPy only plans which bytes make which batch, and graph
operators read them. Any TensorFlow worker that sees the files at the same path can do this.

Workers come and go. So each batch has a number, goes to one worker (`DYNAMIC`), and is put back in
its place here: the training data does not depend on the service.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dataset import dataset_from_generator

Stage = Callable[[tf.data.Dataset], tf.data.Dataset]
AHEAD = 8  # largest number of batches that wait to be used
CONNECT = 10.0  # seconds to connect
WAIT = 60.0  # seconds for a batch to come


class Epoch(NamedTuple):
    """How to read the batches of one epoch.

    Attributes:
        read: from a dataset of batch numbers (int64) to one of (number, batch), in graph operators
            only.
        check: called with a number before that batch is read. It raises InputError when a file that
            the batch needs has changed.
    """

    read: Stage
    check: Callable[[int], None]


class ServiceLost(ConnectionError):
    """The data service sends no more batches; training cannot continue without it."""

    def __init__(self, address: str, reason: str):
        hint = "see to its workers and start again with the same command"
        super().__init__(f"lost the data service at {address}: {reason}; {hint}")


@dataclass(frozen=True)
class Service:
    """The address of the dispatcher of a tf.data service.

    Attributes:
        address: "host:port".
        wait: longest time in seconds for a batch to come.
    """

    address: str
    wait: float

    @classmethod
    def at(cls, address: str) -> Service:
        """The service at "host:port" or "grpc://host:port".

        Raises:
            InputError: when the address is malformed, or nothing listens there.

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
        """Connect to the dispatcher and close the connection.

        Raises:
            OSError: when nothing listens there.
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

    def batches(self, epoch: Epoch, numbers: range) -> Iterator:
        """The batches with these numbers, in order, read by the service's workers."""
        return _in_order(_BatchReader(self, epoch.read, numbers), self, numbers)


class _BatchReader:
    """A thread that reads from the service, because TensorFlow waits for it without a limit."""

    def __init__(self, service: Service, read: Stage, numbers: range):
        self.batches, self.stopped = queue.Queue(AHEAD), threading.Event()
        args = (service, read, numbers)
        threading.Thread(target=self._run, args=args, daemon=True).start()

    def _run(self, service: Service, read: Stage, numbers: range) -> None:
        """Put every (number, batch) into the queue, then None, or the error that ended it."""
        # TensorFlow retries a missing dispatcher at growing intervals, and the process cannot end
        # meanwhile. So it may connect only when a dispatcher listens.
        while not service.listens():
            if self.stopped.wait(0.5):
                return
        try:
            for number, batch in _distributed(service, read, numbers):
                if not self._put((int(number), batch)):
                    return
            self._put(None)
        except Exception as error:  # raised in the thread that waits for batches
            self._put(error)

    def _put(self, item) -> bool:
        """Put an item into the queue; False when the reader was stopped first."""
        while not self.stopped.is_set():
            try:
                self.batches.put(item, timeout=1.0)
                return True
            except queue.Full:
                pass
        return False


def _distributed(service: Service, read: Stage, numbers: range) -> tf.data.Dataset:
    """(number, batch), in the order in which the workers finish them."""
    with tf.device("CPU:0"):
        dataset = read(tf.data.Dataset.range(numbers.start, numbers.stop))
        mode = tf.data.experimental.service.ShardingPolicy.DYNAMIC
        distribute = tf.data.experimental.service.distribute
        return dataset.apply(distribute(mode, f"grpc://{service.address}"))


def read_epochs(
    epoch: Callable[[], Epoch], numbers: range, signature, service: Service | None = None
) -> tf.data.Dataset:
    """The batches with these numbers, in order.

    Args:
        epoch: called when a pass begins, so that one dataset serves every epoch.
        signature: tensor specs of a batch.
        service: the data service that reads; by default this process reads.

    >>> def epoch():
    ...     return Epoch(lambda numbers: numbers.map(lambda n: (n, n * n)), lambda number: None)
    >>> dataset = read_epochs(epoch, range(2, 5), tf.TensorSpec([], tf.int64))
    >>> [int(batch) for batch in dataset]
    [4, 9, 16]
    """

    def generate():
        yield from (service.batches if service else _read_here)(epoch(), numbers)

    return dataset_from_generator(generate, len(numbers), signature)


def _read_here(epoch: Epoch, numbers: range) -> Iterator:
    """The batches in order, read by this process one at a time."""
    with tf.device("CPU:0"):
        batches = iter(epoch.read(tf.data.Dataset.range(numbers.start, numbers.stop)))
    for number in numbers:
        epoch.check(number)
        try:
            _, batch = next(batches)
        except tf.errors.OpError:
            epoch.check(number)  # the file may have been cut just now
            raise
        yield batch


def _in_order(reader: _BatchReader, service: Service, numbers: range) -> Iterator:
    """The batches in the order of their numbers; each may take `service.wait` seconds."""
    early = {}
    try:
        for number in numbers:
            deadline = time.monotonic() + service.wait
            while number not in early:
                try:
                    item = reader.batches.get(timeout=max(deadline - time.monotonic(), 0.01))
                except queue.Empty:
                    reason = f"batch {number + 1} did not come within {service.wait:g} seconds"
                    raise ServiceLost(service.address, reason) from None
                if item is None:
                    reason = f"a worker that had batch {number + 1} is gone"
                    raise ServiceLost(service.address, reason)
                if isinstance(item, Exception):
                    raise ServiceLost(service.address, _message_end(item)) from item
                early[item[0]] = item[1]
            yield early.pop(number)
    finally:
        reader.stopped.set()


def _message_end(error: Exception) -> str:
    """The end of TensorFlow's message, which has the words of the worker."""
    return " ".join(str(getattr(error, "message", error)).split())[-300:]
