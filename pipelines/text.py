"""Text files -> one long stream of ids on disk -> windows for a language model.

B batch, T window length, N ids in the stream. Nothing here holds more than a chunk of text
and a batch of windows: the ids lie in a file of the smallest integer type that holds them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged, replacing, stamp
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.graph_reading import ids_at
from kerasrnn.pipelines.reading import CHUNK, LINE_FAULTS, blocks, refuse_utf16
from kerasrnn.pipelines.reading import fingerprint as fingerprint  # one of this file's names
from kerasrnn.pipelines.reports import Faults, Tally
from kerasrnn.pipelines.service import Service, read_by
from kerasrnn.pipelines.utf8 import Decoder
from kerasrnn.text.tokenizers import END, START, UNKNOWN, Tokenizer

CONVERT = 'convert it: iconv -f LATIN1 -t UTF-8, or drop them with faults="drop"'


@dataclass
class Report:
    """What a reader saw, for people.

    Attributes:
        characters, tokens, unknown: totals over all files.
        lines: those that are not UTF-8 and were dropped.
    """

    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    lines: Tally = field(default_factory=Tally)

    def __str__(self) -> str:
        text = f"{self.characters:,} characters, {self.tokens:,} tokens, {self.unknown:,} unknown"
        return text + self.lines.losses()


def _cut(text: str) -> int:
    """Where a chunk may end: after its last line break, else before its last space."""
    cut = text.rfind("\n") + 1 or max(text.rfind(" "), 0)
    return cut or (len(text) if len(text) >= CHUNK else 0)


def read_text(
    path: str | Path,
    report: Report | None = None,
    *,
    faults: str = "refuse",
    argument: str = "text",
) -> Iterator[str]:
    """The text of one file, plain or gzip, in pieces of about 1 MiB that tear no word.

    A byte-order mark is removed. Of a line over 1 MiB each such part counts as a line.

    Args:
        path: the file.
        report: where characters are counted, and lines that are dropped.
        faults: what becomes of lines that are not UTF-8: "refuse" raises when all of them are
            known, "drop" counts them in `report`.
        argument: what an error calls the file.

    Raises:
        InputError: when the file is missing, unreadable, empty or broken gzip, or has lines that
            are not UTF-8, of which the first ten are named.
    """
    if faults not in ("refuse", "drop"):
        raise InputError("faults", '"refuse" or "drop"', repr(faults), "choose one")
    report, refused = report or Report(), Faults(argument)
    decode = Decoder(path, report.lines.drop if faults == "drop" else refused.add, CHUNK)
    rest = ""
    for number, block in enumerate(blocks(path, argument, size=CHUNK)):
        if not number:
            refuse_utf16(block, path, argument)
        rest += (text := decode(block))
        report.characters += len(text)
        if (cut := _cut(rest)) and not refused.count:
            yield rest[:cut]
        rest = rest[cut:]
    rest += (text := decode(b"", final=True))
    report.characters += len(text)
    refused.refuse(LINE_FAULTS, CONVERT)
    if rest:
        yield rest
    if decode.first:
        what = "which has no line that is UTF-8" if report.lines.dropped else "which is empty"
        raise InputError(argument, "a file with text in it", f"{path}, {what}", "give another")


def read_texts(
    paths: Iterable[str | Path], report: Report | None = None, **options
) -> Iterator[str]:
    """`read_text` of each file in turn."""
    return itertools.chain.from_iterable(read_text(path, report, **options) for path in paths)


@dataclass(frozen=True)
class IdStream:
    """N ids in a file, or a part of them; only what is asked for is read.

    With a `stamp` the file is refused once it has changed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ids"
    >>> np.arange(4, 14, dtype=np.uint8).tofile(path)
    >>> stream = IdStream(path, "uint8", 0, 10)
    >>> train, valid = stream.split(0.8)
    >>> len(train), valid.read(0, 2).tolist()
    (8, [12, 13])
    """

    path: Path
    dtype: str
    start: int
    stop: int
    stamp: Stamp | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, start: int, count: int) -> np.ndarray:
        """`count` ids from `start` on, as int32 [count]."""
        assert 0 <= start and start + count <= len(self), (start, count, len(self))
        check_unchanged(self.path, self.stamp, "ids")
        offset = (self.start + start) * np.dtype(self.dtype).itemsize
        ids = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(ids) != count:
            expected = f"{count} ids from {start} on"
            raise InputError("ids", expected, len(ids), f"encode {self.path} again")
        return ids.astype(np.int32)

    def moved(self, path: Path) -> IdStream:
        """Move the file to `path`."""
        os.replace(self.path, path)
        return replace(self, path=path)

    def split(self, fraction: float) -> tuple[IdStream, IdStream]:
        """The first `fraction` of the ids, and the rest."""
        cut = self.start + int(len(self) * fraction)
        return replace(self, stop=cut), replace(self, start=cut)


def encode(
    paths: Iterable[str | Path], tokenizer: Tokenizer, out: str | Path, **options
) -> tuple[IdStream, Report]:
    """Write the ids of `paths` to the file `out`, an end id between two files.

    The file appears whole or not at all. `faults` and `argument` are those of `read_text`.
    """
    out, report = Path(out), Report()
    dtype = np.min_scalar_type(tokenizer.size - 1)
    with replacing(out) as partial, partial.open("wb") as file:
        for number, path in enumerate(paths):
            if number:
                file.write(np.array([END], dtype).tobytes())
                report.tokens += 1
            for text in read_text(path, report, **options):
                ids = tokenizer.tokenize([text]).flat_values.numpy()
                report.tokens += len(ids)
                report.unknown += int(np.sum(ids == UNKNOWN))
                file.write(ids.astype(dtype).tobytes())
    return IdStream(out, dtype.name, 0, report.tokens, stamp(out)), report


def _check(ids: IdStream, batch_size: int, length: int, shard: tuple[int, int]) -> None:
    for name, value in (("batch_size", batch_size), ("length", length)):
        if value < 1:
            raise InputError(name, "1 or more", value, "raise it")
    if len(ids) < batch_size * length:
        raise InputError(
            "text",
            f"at least {batch_size * length:,} tokens ({batch_size} rows, windows of {length})",
            f"{len(ids):,}",
            "give more text, fewer rows or a shorter window",
        )
    if batch_size % shard[1]:
        raise InputError(
            "batch_size", f"a multiple of the {shard[1]} workers", batch_size, "change it"
        )


def _rows(batch_size: int, shard: tuple[int, int]) -> range:
    """The rows of the global batch that worker `shard[0]` of `shard[1]` reads."""
    index, count = shard
    return range(index * batch_size // count, (index + 1) * batch_size // count)


def _signature(rows: range, length: int | None) -> tuple:
    """(inputs, targets), each int32 [B, T]."""
    return (tf.TensorSpec([len(rows), length], tf.int32),) * 2


def _window(ids: IdStream, start: int, length: int, begins: bool) -> tuple[np.ndarray, np.ndarray]:
    """One row's inputs and targets: the targets, and the same moved right by one."""
    if begins:
        targets = ids.read(start, length)
        return np.concatenate([[START], targets[:-1]]), targets
    both = ids.read(start - 1, length + 1)
    return both[:-1], both[1:]


def _windows(ids: IdStream) -> Callable:
    """`_window` of several rows as graph code: starts int64 [B], length, begins -> both [B, T]."""
    read = ids_at(ids.path, ids.dtype, ids.stop)

    def windows(starts, length, begins):
        starts = ids.start + tf.cast(starts, tf.int64)
        whole = tf.fill(tf.shape(starts), length)
        before = read(tf.maximum(starts - 1, 0), tf.ones_like(starts), 1)
        targets = read(starts, whole, length)
        inputs = tf.concat([tf.where(begins, START, before), targets[:, :-1]], 1)
        return inputs, targets

    return windows


def contiguous(
    ids: IdStream,
    batch_size: int,
    length: int,
    *,
    position: Position | None = None,
    whole: bool = False,
    shard: tuple[int, int] = (0, 1),
    service: Service | None = None,
) -> tf.data.Dataset:
    """Windows for truncated back-propagation through time (Williams & Peng 1990).

    The stream is cut into B rows; row b of batch k+1 continues row b of batch k, so the state a
    model carries over is right. Each row begins with the start id. With the ids 4 to 9, B = 2
    and T = 2 the batches of (inputs -> targets) are [2 4 -> 4 5, 2 7 -> 7 8] and, with `whole`,
    [5 -> 6, 8 -> 9].

    Args:
        ids: the stream.
        batch_size: B, the rows of the global batch.
        length: T.
        position: where training stands; at the beginning when not given.
        whole: also give the last, shorter window of the rows.
        shard: (index, count) of this worker, which reads its rows alone.
        service: whose workers read; this process when not given.

    Raises:
        InputError: when the stream is shorter than one batch, or B does not divide by the workers.
    """
    _check(ids, batch_size, length, shard)
    row_length = len(ids) // batch_size
    rows = _rows(batch_size, shard)
    starts = range(0, row_length if whole else row_length - length + 1, length)
    position = position or Position()
    numbers = range(len(starts))[position.batch :]
    signature = _signature(rows, None if whole else length)

    def generate():
        for start in starts[position.batch :]:
            size = min(length, row_length - start)
            windows = [_window(ids, row * row_length + start, size, start == 0) for row in rows]
            yield tuple(np.stack(part) for part in zip(*windows, strict=True))

    def epoch():
        windows, first = _windows(ids), np.array(rows) * row_length

        def read(number):
            size = tf.minimum(row_length - number * length, length)
            return number, windows(first + number * length, size, number == 0)

        return lambda dataset: dataset.map(read)

    return read_by(service, generate, epoch, numbers, signature)


def shuffled(
    ids: IdStream,
    batch_size: int,
    length: int,
    *,
    seed: int,
    position: Position | None = None,
    shard: tuple[int, int] = (0, 1),
    service: Service | None = None,
) -> tf.data.Dataset:
    """Windows in random order, each beginning with the start id: no state is carried.

    Every epoch cuts the stream at another offset and visits the windows in another order; the
    same seed and position give the same windows. With the ids 4 to 8 and T = 2 a pass may be
    [2 7 -> 7 8], [2 5 -> 5 6].

    Args:
        seed: of the order and the offset, together with the epoch of `position`.
        position, ids, batch_size, length, shard, service: as in `contiguous`.
    """
    _check(ids, batch_size, length, shard)
    rows = _rows(batch_size, shard)
    position = position or Position()
    # One window fewer than would fit leaves room for any offset.
    windows = max((len(ids) - length + 1) // length, batch_size)
    batches = range(windows // batch_size)[position.batch :]

    def drawn() -> np.ndarray:
        """Where the windows of an epoch begin, in its order, [batches, rows]."""
        random = np.random.default_rng([seed, position.epoch])
        spare = len(ids) - windows * length
        offset = int(random.integers(min(length, spare + 1)))
        order = random.permutation(windows)[: windows // batch_size * batch_size]
        return offset + order.reshape(-1, batch_size)[:, rows.start : rows.stop] * length

    def generate():
        for starts in drawn()[batches.start :].tolist():
            pairs = [_window(ids, start, length, True) for start in starts]
            yield tuple(np.stack(part) for part in zip(*pairs, strict=True))

    def epoch():
        starts, read = drawn(), _windows(ids)
        return lambda numbers: numbers.map(lambda n: (n, read(tf.gather(starts, n), length, True)))

    return read_by(service, generate, epoch, batches, _signature(rows, length))
