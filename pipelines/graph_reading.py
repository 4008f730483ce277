"""Reads ids with graph operators only, which any TensorFlow process can run.

B batch, T time. The plan of an epoch is part of the graph, about 30 bytes for each example.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.text.tokenizers import END, START


def ids_at(path: Path, dtype: str, total: int) -> Callable:
    """Graph code that reads ids of a file, int32 [B, length], from starts and counts int64 [B].

    Behind each count there are zeros. The file is mapped into memory, so only the requested parts
    are read. A file of fewer than `total` ids fails when it is read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ids"
    >>> np.array([4, 5, 6, 7, 8], np.uint16).tofile(path)
    >>> ids_at(path, "uint16", 5)(tf.constant([1, 3], tf.int64), [3, 2], 4).numpy().tolist()
    [[5, 6, 7, 0], [7, 8, 0, 0]]
    """

    def read(starts, counts, length):
        mapped = tf.raw_ops.ImmutableConst(
            dtype=dtype, shape=[total], memory_region_name=str(path.absolute())
        )
        return pieces(mapped, starts, counts, length)

    return read


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


def teacher_forcing_in_graph(
    read: Callable, starts, counts, rows, length
) -> tuple[tf.Tensor, tf.Tensor]:
    """The same as `batching.teacher_forcing`, in graph code.

    `read` is a function as in `ids_at`; starts, counts [B] -> two arrays int32 [rows, length].

    >>> def read(starts, counts, length):
    ...     return pieces(tf.constant([4, 5, 6, 7, 8]), starts, counts, length)
    >>> [ids.numpy().tolist() for ids in teacher_forcing_in_graph(read, [0, 3], [3, 2], 3, 4)]
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


def pairs_in_graph(pairs: Pairs) -> Callable:
    """The `make` of `batching.batches` in graph code: a part of tensors -> a batch."""
    read = ids_at(pairs.path, pairs.dtype, int(pairs.starts[-1]))
    columns = (pairs.starts[:-1], pairs.source_lengths.astype(np.int64), pairs.target_lengths)

    def make(part):
        starts, sources, targets = (tf.gather(column, part.indices) for column in columns)
        source_length, target_length = part.lengths
        _, source = teacher_forcing_in_graph(read, starts, sources, part.rows, source_length)
        target_starts = starts + sources
        target_in, target_out = teacher_forcing_in_graph(
            read, target_starts, targets, part.rows, target_length
        )
        return (source, target_in), target_out

    return make
