"""A generator of batches as a `tf.data.Dataset`, and where training stands in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf


@dataclass
class Position:
    """Where training stands.

    Attributes:
        epoch: read where a pass begins: another number, another shuffle.
        batch: read when the dataset is made: the batch that every pass begins with, to go on
            after an interruption.
        failed: why reading ended, which TensorFlow only tells as text.
    """

    epoch: int = 0
    batch: int = 0
    failed: Exception | None = None


def is_held_out(number: int, held: int, total: int) -> bool:
    """Whether example `number` of `total` is one of the `held`, which are spread evenly.

    >>> [number for number in range(5) if is_held_out(number, 2, 5)]
    [2, 4]
    """
    return held * (number + 1) // total > held * number // total


def generated(
    generator: Callable, batches: int, signature, position: Position | None = None
) -> tf.data.Dataset:
    """What `generator()` yields, `batches` times, each as `signature` (tensor specs) says.

    What it raises is kept in `position.failed`.

    >>> five = generated(lambda: iter(range(4, 9)), 5, tf.TensorSpec([], tf.int32))
    >>> len(five), [int(number) for number in five]
    (5, [4, 5, 6, 7, 8])
    """

    def generate():
        try:
            yield from generator()
        except Exception as error:
            if position is not None:
                position.failed = error
            raise

    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(4)
    options = tf.data.Options()
    # Reading is cheap, and `fit` would wait for the autotune thread at the end of an epoch.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
