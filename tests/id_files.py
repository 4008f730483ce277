"""Files of ids, written and read by NumPy: what the graph operators read is compared with it."""

from pathlib import Path

import numpy as np

from kerasrnn.pipelines.ids import IdFile
from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.pipelines.text import IdStream


def file_of(path: Path, ids, dtype: str) -> IdFile:
    """A new file of these ids."""
    ids = np.asarray(ids, dtype)
    ids.tofile(path)
    return IdFile(path, dtype, len(ids))


def stream_of(path: Path, ids, dtype: str = "uint8") -> IdStream:
    """A stream of all the ids of a new file."""
    return IdStream(file_of(path, ids, dtype), 0, len(ids))


def ids_in(stream: IdStream) -> list[int]:
    """The ids of a stream."""
    return np.fromfile(stream.file.path, stream.file.dtype)[stream.start : stream.stop].tolist()


def rows_in(pairs: Pairs) -> tuple[list[list[int]], list[list[int]]]:
    """The ids of all sources and of all targets."""
    ids, sides = np.fromfile(pairs.file.path, pairs.file.dtype), ([], [])
    lengths = np.stack([pairs.source_lengths, pairs.target_lengths], axis=1).ravel()
    for place, row in enumerate(np.split(ids, np.cumsum(lengths))[:-1]):
        sides[place % 2].append(row.tolist())
    return sides
