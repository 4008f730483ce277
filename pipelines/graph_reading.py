"""Reading ids by graph operators alone, which any TensorFlow process can run.

B batch, T time. The plan of an epoch is part of the graph, some 30 bytes for each example.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.text.tokenizers import END, START


def ids_at(path: Path, dtype: str, total: int) -> Callable:
    """Graph code that reads ids of a file: starts and counts int64 [B], length -> int32
    [B, length], 0 behind each count. The file is mapped into memory, so only what is asked for is
    read; reading a file of fewer than `total` ids fails.

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
    """`counts` [B] ids from `starts` [B] on, as int32 [B, length], padded with 0.

    >>> pieces(tf.constant([4, 5, 6, 7, 8]), [1, 3], [3, 2], 4).numpy().tolist()
    [[5, 6, 7, 0], [7, 8, 0, 0]]
    """
    places = tf.range(tf.cast(length, tf.int64))
    real = places < tf.cast(counts, tf.int64)[:, None]
    places += tf.cast(starts, tf.int64)[:, None]
    return tf.where(real, tf.cast(tf.gather(ids, tf.where(real, places, 0)), tf.int32), 0)


def teacher_forcing_in_graph(
    read: Callable, starts, counts, rows, length
) -> tuple[tf.Tensor, tf.Tensor]:
    """`batching.teacher_forcing` of what `read` reads: starts, counts [B] -> both int32
    [rows, length].

    >>> def read(starts, counts, length):
    ...     return pieces(tf.constant([4, 5, 6, 7, 8]), starts, counts, length)
    >>> [ids.numpy().tolist() for ids in teacher_forcing_in_graph(read, [0, 3], [3, 2], 3, 4)]
    [[[2, 4, 5, 6], [2, 7, 8, 0], [0, 0, 0, 0]], [[4, 5, 6, 3], [7, 8, 3, 0], [0, 0, 0, 0]]]
    """
    ids = read(starts, counts, length)
    here = tf.range(tf.cast(length, tf.int64)) == tf.cast(counts, tf.int64)[:, None]
    opened = tf.concat([tf.fill([tf.shape(ids)[0], 1], START), ids[:, :-1]], 1)
    return at_top(opened, rows), at_top(tf.where(here, END, ids), rows)


def at_top(values: tf.Tensor, rows) -> tf.Tensor:
    """Values [B, ...] with rows of zeros below, [rows, ...].

    >>> at_top(tf.constant([[4, 5], [6, 7]]), 3).numpy().tolist()
    [[4, 5], [6, 7], [0, 0]]
    """
    below = tf.cast(rows, tf.int64) - tf.shape(values, tf.int64)[0]
    zeros = tf.zeros(tf.concat([[below], tf.shape(values, tf.int64)[1:]], 0), values.dtype)
    return tf.concat([values, zeros], 0)


def pairs_in_graph(pairs: Pairs) -> Callable:
    """What `batching.batches` makes of a part, as graph code: a part of tensors -> a batch."""
    read = ids_at(pairs.path, pairs.dtype, int(pairs.starts[-1]))
    columns = (pairs.starts[:-1], pairs.source_lengths.astype(np.int64), pairs.target_lengths)

    def make(part):
        starts, sources, targets = (tf.gather(column, part.indices) for column in columns)
        source_length, target_length = part.lengths
        _, source = teacher_forcing_in_graph(read, starts, sources, part.rows, source_length)
        behind = starts + sources
        target_in, target_out = teacher_forcing_in_graph(
            read, behind, targets, part.rows, target_length
        )
        return (source, target_in), target_out

    return make
