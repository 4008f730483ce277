"""A generator of batches as a `tf.data.Dataset`, and where training stands in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tensorflow as tf


@dataclass
class Position:
    """Where training stands.

    Attributes:
        epoch: read where a pass begins: another number, another shuffle.
        batch: read when the dataset is made: the batch that every pass begins with, to go on
            after an interruption.
    """

    epoch: int = 0
    batch: int = 0


def is_held_out(number: int, held: int, total: int) -> bool:
    """Whether example `number` of `total` is one of the `held`, which are spread evenly.

    >>> [number for number in range(5) if is_held_out(number, 2, 5)]
    [2, 4]
    """
    return held * (number + 1) // total > held * number // total


def generated(generator: Callable, batches: int, signature) -> tf.data.Dataset:
    """What `generator()` yields, `batches` times, each as `signature` (tensor specs) says.

    >>> five = generated(lambda: iter(range(4, 9)), 5, tf.TensorSpec([], tf.int32))
    >>> len(five), [int(number) for number in five]
    (5, [4, 5, 6, 7, 8])
    """

    def remembering():
        try:
            yield from generator()
        except Exception as error:
            _raised[:] = [error]
            raise

    dataset = tf.data.Dataset.from_generator(remembering, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(4)
    options = tf.data.Options()
    # Reading is cheap, and `fit` would wait for the autotune thread at the end of an epoch.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


_raised: list[Exception] = []  # the last error of a generator, which runs in TensorFlow's threads


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """What a `generated` generator raises, as it was and not as TensorFlow tells it.

    >>> def broken():
    ...     yield 4
    ...     raise OSError("gone")
    >>> with own_errors():
    ...     list(generated(broken, 5, tf.TensorSpec([], tf.int32)))
    Traceback (most recent call last):
    OSError: gone
    """
    _raised.clear()
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # the latter of lost workers
        if _raised:
            raise _raised.pop() from error
        raise
