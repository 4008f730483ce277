"""Turns a generator of batches into a `tf.data.Dataset`, and keeps the position of the training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tensorflow as tf


@dataclass
class Position:
    """The position of the training.

    Attributes:
        epoch: read when a pass begins; each number gives another shuffle.
        batch: read when the dataset is made: the first batch of every pass. It lets training go on
            after an interruption.
    """

    epoch: int = 0
    batch: int = 0


def is_held_out(number: int, held: int, total: int) -> bool:
    """Whether example `number` of `total` is one of the `held` examples, spread evenly.

    >>> [number for number in range(5) if is_held_out(number, 2, 5)]
    [2, 4]
    """
    return held * (number + 1) // total > held * number // total


def dataset_from_generator(generator: Callable, batches: int, signature) -> tf.data.Dataset:
    """A dataset of what `generator()` yields: `batches` elements of the form `signature`.

    >>> five = dataset_from_generator(lambda: iter(range(4, 9)), 5, tf.TensorSpec([], tf.int32))
    >>> len(five), [int(number) for number in five]
    (5, [4, 5, 6, 7, 8])
    """

    def recording():
        try:
            yield from generator()
        except Exception as error:
            # TensorFlow keeps only the text of an error: `original_errors` needs the object.
            _raised[:] = [error]
            raise

    dataset = tf.data.Dataset.from_generator(recording, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(4)
    options = tf.data.Options()
    # Autotuning gains nothing for cheap reading, and `fit` would wait for its thread at the end of
    # an epoch.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


_raised: list[Exception] = []  # the last error of a generator; it runs in a thread of TensorFlow


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Within this context, an error of a generator of `dataset_from_generator` is raised as it was.

    TensorFlow would raise one of its own errors instead.

    >>> def broken():
    ...     yield 4
    ...     raise OSError("gone")
    >>> with original_errors():
    ...     list(dataset_from_generator(broken, 5, tf.TensorSpec([], tf.int32)))
    Traceback (most recent call last):
    OSError: gone
    """
    _raised.clear()
    try:
        yield
    except (tf.errors.OpError, RuntimeError) as error:  # RuntimeError: of lost workers
        if _raised:
            raise _raised.pop() from error
        raise
