"""Turns text files into one long stream of ids on disk, and into windows for a language model.

B batch, T window length, N ids in the stream. Only a chunk of text and a batch of windows are in
memory at once: the ids lie in a file of the smallest integer type that holds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import replacing, stamp
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.ids import IdFile, at_top
from kerasrnn.pipelines.reading import CHUNK, LINE_FAULTS, blocks, refuse_utf16
from kerasrnn.pipelines.reading import fingerprint as fingerprint  # part of this module's interface
from kerasrnn.pipelines.reports import Faults, Tally
from kerasrnn.pipelines.service import Epoch, Service, read_epochs
from kerasrnn.pipelines.utf8 import Decoder
from kerasrnn.text.tokenizers import END, START, UNKNOWN, Tokenizer

CONVERT = 'convert it: iconv -f LATIN1 -t UTF-8, or drop them with faults="drop"'


@dataclass
class Report:
    """Counts of a reader, for people.

    Attributes:
        characters, tokens, unknown: totals over all files.
        lines: the lines that were dropped because they are not UTF-8.
    """

    characters: int = 0
    tokens: int = 0
    unknown: int = 0
    lines: Tally = field(default_factory=Tally)

    def __str__(self) -> str:
        text = f"{self.characters:,} characters, {self.tokens:,} tokens, {self.unknown:,} unknown"
        return text + self.lines.losses()


def _cut(text: str) -> int:
    """Where a chunk may end: after its last line break, or else before its last space."""
    cut = text.rfind("\n") + 1 or max(text.rfind(" "), 0)
    # A very long word is cut anywhere, so that memory stays bounded.
    return cut or (len(text) if len(text) >= CHUNK else 0)


def read_text(
    path: str | Path,
    report: Report | None = None,
    *,
    faults: str = "refuse",
    argument: str = "text",
) -> Iterator[str]:
    """Read one file, plain or gzip, in pieces of about 1 MiB that split no word.

    A byte-order mark is removed. A line over 1 MiB counts as one line for each such part.

    Args:
        path: the file.
        report: counts characters and dropped lines.
        faults: what to do with lines that are not UTF-8: "refuse" raises after the whole file is
            read; "drop" skips them and counts them in `report`.
        argument: the name of the file in an error.

    Raises:
        InputError: when the file is missing, unreadable, empty or broken gzip, or has lines that
            are not UTF-8; the message lists the first ten.
    """
    if faults not in ("refuse", "drop"):
        raise InputError("faults", '"refuse" or "drop"', repr(faults), "choose one")
    report, refused = report or Report(), Faults(argument)
    decode = Decoder(path, report.lines.drop if faults == "drop" else refused.add, CHUNK)
    pending = ""
    for number, block in enumerate(blocks(path, argument, size=CHUNK)):
        if not number:
            refuse_utf16(block, path, argument)
        pending += (text := decode(block))
        report.characters += len(text)
        if (cut := _cut(pending)) and not refused.count:
            yield pending[:cut]
        pending = pending[cut:]
    pending += (text := decode(b"", final=True))
    report.characters += len(text)
    refused.refuse(LINE_FAULTS, CONVERT)
    if pending:
        yield pending
    if decode.first:
        reason = "which has no line that is UTF-8" if report.lines.dropped else "which is empty"
        raise InputError(argument, "a file with text in it", f"{path}, {reason}", "give another")


def read_texts(
    paths: Iterable[str | Path], report: Report | None = None, **options
) -> Iterator[str]:
    """`read_text` of each file in turn."""
    return itertools.chain.from_iterable(read_text(path, report, **options) for path in paths)


@dataclass(frozen=True)
class IdStream:
    """The ids of a file from `start` up to `stop`.

    >>> stream = IdStream(IdFile(Path("ids"), "uint8", 10), 0, 10)
    >>> train, valid = stream.split(0.8)
    >>> len(train), valid.start, valid.stop
    (8, 8, 10)
    """

    file: IdFile
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def split(self, fraction: float) -> tuple[IdStream, IdStream]:
        """The first `fraction` of the ids, and the rest."""
        cut = self.start + int(len(self) * fraction)
        return replace(self, stop=cut), replace(self, start=cut)


def encode(
    paths: Iterable[str | Path], tokenizer: Tokenizer, out: str | Path, **options
) -> tuple[IdStream, Report]:
    """Write the ids of `paths` to the file `out`, with an end id between two files.

    The file appears complete or not at all. `faults` and `argument` are those of `read_text`.
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
    file = IdFile(out, dtype.name, report.tokens, stamp(out))
    return IdStream(file, 0, report.tokens), report


def _check(ids: IdStream, batch_size: int, length: int, shard: tuple[int, int]) -> None:
    """Refuse sizes that do not fit the stream or the workers (InputError)."""
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
    """The rows of the global batch that worker `shard[0]` of `shard[1]` reads.

    >>> [list(_rows(5, (index, 3))) for index in range(3)]
    [[0, 1], [2, 3], [4]]
    """
    index, most = shard[0], _most_rows(batch_size, shard)
    return range(min(index * most, batch_size), min((index + 1) * most, batch_size))


def _most_rows(batch_size: int, shard: tuple[int, int]) -> int:
    """How many rows the first worker reads; no other reads more."""
    return -(-batch_size // shard[1])


def _signature(rows: int, length: int | None) -> tuple:
    """Specs of (inputs, targets), each int32 [B, T]."""
    return (tf.TensorSpec([rows, length], tf.int32),) * 2


def _windows(ids: IdStream, starts, length, begins) -> tuple[tf.Tensor, tf.Tensor]:
    """(inputs, targets) of the windows at `starts` [B], each int32 [B, T]; graph code.

    Inputs are the targets moved right by one. A window that `begins` has the start id first,
    another one the id before it.
    """
    starts = ids.start + tf.cast(starts, tf.int64)
    whole = tf.fill(tf.shape(starts), length)
    # The very first window has no id before it, and `begins` hides what is read instead.
    previous = ids.file.read(tf.maximum(starts - 1, 0), tf.ones_like(starts), 1)
    targets = ids.file.read(starts, whole, length)
    inputs = tf.concat([tf.where(begins, START, previous), targets[:, :-1]], 1)
    return inputs, targets


def _epoch(ids: IdStream, read: Callable) -> Epoch:
    """An epoch of which `read` reads the batch of a number."""

    def numbered(number):
        return number, read(number)

    return Epoch(lambda numbers: numbers.map(numbered), lambda number: ids.file.check("ids"))


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

    The stream is cut into B rows. Row b of batch k+1 continues row b of batch k, so a model can
    carry its state over. Each row begins with the start id. With the ids 4 to 9, B = 2 and T = 2,
    the batches of (inputs -> targets) are [2 4 -> 4 5, 2 7 -> 7 8] and, with `whole`, [5 -> 6, 8 ->
    9].

    Args:
        ids: the stream.
        batch_size: B, the rows of the global batch.
        length: T.
        position: where training stands; by default at the beginning.
        whole: also yield the last, shorter window of the rows.
        shard: (index, count) of this worker, which reads only its rows. With `whole`, rows of zeros
            are added where `count` does not divide B, so that every worker has as many.
        service: the data service that reads; by default this process reads.

    Raises:
        InputError: when the stream is shorter than one batch, or `count` does not divide B and
            `whole` is not asked for.
    """
    _check(ids, batch_size, length, (0, 1) if whole else shard)
    row_length = len(ids) // batch_size
    rows = _rows(batch_size, shard)
    starts = range(0, row_length if whole else row_length - length + 1, length)
    numbers = range(len(starts))[(position or Position()).batch :]
    count = _most_rows(batch_size, shard)  # rows of zeros stand behind those that are read
    signature = _signature(count, None if whole else length)

    first = np.arange(rows.start, rows.stop) * row_length

    def read(number):
        size = tf.minimum(row_length - number * length, length)
        windows = _windows(ids, first + number * length, size, number == 0)
        return tuple(at_top(side, count) for side in windows)

    return read_epochs(lambda: _epoch(ids, read), numbers, signature, service)


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
    """Windows in random order, each beginning with the start id: no state is carried over.

    Every epoch cuts the stream at another offset and has another order of windows. The same seed
    and position give the same windows. With the ids 4 to 8 and T = 2 a pass may be [2 7 -> 7 8], [2
    5 -> 5 6].

    Args:
        seed: decides order and offset, together with the epoch of `position`.
        position, ids, batch_size, length, shard, service: as in `contiguous`.
    """
    _check(ids, batch_size, length, shard)
    rows = _rows(batch_size, shard)
    position = position or Position()
    # One window fewer than would fit leaves room for any offset.
    windows = max((len(ids) - length + 1) // length, batch_size)
    batches = range(windows // batch_size)[position.batch :]

    def drawn_starts() -> np.ndarray:
        """The starts of an epoch's windows, in its order: [batches, rows]."""
        random = np.random.default_rng([seed, position.epoch])
        spare = len(ids) - windows * length
        offset = int(random.integers(min(length, spare + 1)))
        order = random.permutation(windows)[: windows // batch_size * batch_size]
        return offset + order.reshape(-1, batch_size)[:, rows.start : rows.stop] * length

    def epoch():
        starts = drawn_starts()
        return _epoch(ids, lambda n: _windows(ids, tf.gather(starts, n), length, True))

    return read_epochs(epoch, batches, _signature(len(rows), length), service)
