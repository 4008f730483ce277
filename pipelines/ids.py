"""Files of ids, read with graph operators only, which any TensorFlow process can run.

B batch, T time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged
from kerasrnn.text.tokenizers import END, START


@dataclass(frozen=True)
class IdFile:
    """`count` ids in a file, one after another, as integers of type `dtype`.

    With a `stamp`, a file that has changed is refused.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ids"
    >>> np.array([4, 5, 6, 7, 8], np.uint16).tofile(path)
    >>> IdFile(path, "uint16", 5).read(tf.constant([1, 3], tf.int64), [3, 2], 4).numpy().tolist()
    [[5, 6, 7, 0], [7, 8, 0, 0]]
    """

    path: Path
    dtype: str
    count: int
    stamp: Stamp | None = None

    def read(self, starts, counts, length) -> tf.Tensor:
        """Graph code: the `counts` [B] ids from `starts` [B] on, int32 [B, length], then zeros.

        The file is mapped into memory, so only the requested parts are read.
        """
        mapped = tf.raw_ops.ImmutableConst(
            dtype=self.dtype, shape=[self.count], memory_region_name=str(self.path.absolute())
        )
        return pieces(mapped, starts, counts, length)

    def check(self, argument: str) -> None:
        """Raise InputError about `argument` when the file is gone, changed or too short.

        A process that reads behind the end of a mapped file is killed: check before reading.
        """
        check_unchanged(self.path, self.stamp, argument)
        try:
            count = self.path.stat().st_size // np.dtype(self.dtype).itemsize
            received = f"{self.path}, which has {count:,}" if count < self.count else ""
        except OSError as error:
            received = f"{self.path} ({error.strerror})"
        if received:
            raise InputError(argument, f"a file of {self.count:,} ids", received, "encode it again")

    def moved(self, path: Path) -> IdFile:
        """Move the file to `path`."""
        os.replace(self.path, path)
        return replace(self, path=path)


def pieces(ids: tf.Tensor, starts, counts, length) -> tf.Tensor:
    """The `counts` [B] ids from `starts` [B] on, as int32 [B, length], padded with 0.

    >>> pieces(tf.constant([4, 5, 6, 7, 8]), [1, 3], [3, 2], 4).numpy().tolist()
    [[5, 6, 7, 0], [7, 8, 0, 0]]
    """
    places = tf.range(tf.cast(length, tf.int64))
    real = places < tf.cast(counts, tf.int64)[:, None]
    places += tf.cast(starts, tf.int64)[:, None]
    # Places behind a row may be outside the file: gather id 0 there, and hide it.
    return tf.where(real, tf.cast(tf.gather(ids, tf.where(real, places, 0)), tf.int32), 0)


def teacher_forcing(read: Callable, starts, counts, rows, length) -> tuple[tf.Tensor, tf.Tensor]:
    """Decoder inputs and expected outputs, both int32 [rows, length], in graph code.

    An input begins with the start id, an output ends with the end id. Below the B rows that are
    read there are rows of zeros.

    Args:
        read: a function as `IdFile.read`.
        starts, counts: where the ids of each row begin, and how many there are, [B].

    >>> def read(starts, counts, length):
    ...     return pieces(tf.constant([4, 5, 6, 7, 8]), starts, counts, length)
    >>> [ids.numpy().tolist() for ids in teacher_forcing(read, [0, 3], [3, 2], 3, 4)]
    [[[2, 4, 5, 6], [2, 7, 8, 0], [0, 0, 0, 0]], [[4, 5, 6, 3], [7, 8, 3, 0], [0, 0, 0, 0]]]
    """
    ids = read(starts, counts, length)
    is_end = tf.range(tf.cast(length, tf.int64)) == tf.cast(counts, tf.int64)[:, None]
    with_start = tf.concat([tf.fill([tf.shape(ids)[0], 1], START), ids[:, :-1]], 1)
    return at_top(with_start, rows), at_top(tf.where(is_end, END, ids), rows)


def at_top(values: tf.Tensor, rows) -> tf.Tensor:
    """Put rows of zeros below values [B, ...]: [rows, ...].

    >>> at_top(tf.constant([[4, 5], [6, 7]]), 3).numpy().tolist()
    [[4, 5], [6, 7], [0, 0]]
    """
    below = tf.cast(rows, tf.int64) - tf.shape(values, tf.int64)[0]
    zeros = tf.zeros(tf.concat([[below], tf.shape(values, tf.int64)[1:]], 0), values.dtype)
    return tf.concat([values, zeros], 0)
