"""Sentence pairs from two aligned text files or one TSV file, as id rows on disk for a translator.

N pairs. Only a few thousand lines are in memory at once. The ids lie in a file of the smallest
integer type that holds them; memory keeps the lengths alone, int32 [N] for each side.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import replacing, stamp
from kerasrnn.pipelines.ids import IdFile
from kerasrnn.pipelines.reading import LINE_FAULTS, LONG, LONGEST, lines, text_of
from kerasrnn.pipelines.reports import Faults, Tally
from kerasrnn.text.tokenizers import UNKNOWN, Tokenizer

LINES = 2048  # pairs tokenized at once
COLUMNS = "not two columns"
DROP = 'mend them, or drop them with faults="drop"'
ARGUMENTS = ("source", "target")
FAULTS = {**LINE_FAULTS, COLUMNS: "two columns, a tab between them, in every line"}


@dataclass
class PairReport(Tally):
    """Counts of pairs kept and dropped, for people.

    Attributes:
        kept, dropped, places: as in `Tally`.
        source_tokens, target_tokens: number of ids in kept pairs, without start and end.
        source_unknown, target_unknown: how many of these ids are the unknown id.

    >>> report = PairReport(kept=5)
    >>> report.drop("empty", "a.de:17")
    >>> print(report)
    5 pairs; 1 dropped: 1 empty (a.de:17)
    """

    source_tokens: int = 0
    target_tokens: int = 0
    source_unknown: int = 0
    target_unknown: int = 0

    def __str__(self) -> str:
        text = f"{self.kept:,} pairs"
        for side in ("source", "target"):
            tokens, unknown = getattr(self, f"{side}_tokens"), getattr(self, f"{side}_unknown")
            text += f", {tokens:,} {side} tokens ({unknown:,} unknown)" if tokens else ""
        return text + self.losses()


@dataclass(frozen=True)
class Limits:
    """Limits on the lengths of the pairs to keep, in tokens without start and end.

    Args:
        minimum, maximum: limits of the length of each side.
        ratio: largest allowed ratio of the longer side's length to the shorter side's.

    Raises:
        InputError: when no pair can be within the limits.

    >>> limits, source = Limits(minimum=2, maximum=9, ratio=2), np.array([4, 4, 4, 1, 9])
    >>> limits.reasons(source, np.array([4, 8, 9, 2, 10])).tolist()
    ['', '', 'length ratio over 2', 'under 2 tokens', 'over 9 tokens']
    """

    minimum: int = 1
    maximum: int | None = None
    ratio: float | None = None

    def __post_init__(self):
        if self.minimum < 1:
            raise InputError("minimum length", "1 or more", self.minimum, "raise it")
        if self.maximum is not None and self.maximum < self.minimum:
            expected = f"{self.minimum} or more, as the minimum is"
            raise InputError("maximum length", expected, self.maximum, "raise it")
        if self.ratio is not None and self.ratio < 1:
            raise InputError("length ratio", "1 or more", self.ratio, "raise it")

    def reasons(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The reason to drop each pair, str [N], "" for a kept one, from both lengths, int [N]."""
        shorter, longer = np.minimum(source, target), np.maximum(source, target)
        reasons = {f"under {self.minimum} tokens": shorter < self.minimum}
        if self.maximum is not None:
            reasons[f"over {self.maximum} tokens"] = longer > self.maximum
        if self.ratio is not None:
            reasons[f"length ratio over {self.ratio:g}"] = longer > self.ratio * shorter
        return np.select(list(reasons.values()), list(reasons), "")


def _aligned_lines(source: Path, target: Path, arguments) -> Iterator[list[bytes]]:
    """The two lines of each pair. Files of different length raise InputError at the end."""
    files = [lines(source, arguments[0]), lines(target, arguments[1])]
    for number, pair in enumerate(itertools.zip_longest(*files)):
        if None in pair:
            # One file has ended: count the lines still to come in each.
            left = [(x is not None) + sum(1 for _ in f) for x, f in zip(pair, files, strict=True)]
            source_count, target_count = (number + n for n in left)
            raise InputError(
                arguments[1],
                f"as many lines as the source ({source_count:,} in {source})",
                f"{target_count:,} in {target}",
                "align the files line by line",
            )
        yield list(pair)


def _columns(path: Path, argument: str) -> Iterator[list[bytes]]:
    """The columns of each line. A line over `LONGEST` may be cut, so it stays in one piece."""
    for line in lines(path, argument):
        yield line.split(b"\t") if len(line) <= LONGEST else [line]


def _texts(cells: list[bytes]) -> tuple[list[str], str, int]:
    """(both texts, the fault as a key of `FAULTS` or "", the side of the fault: 0 or 1)."""
    if len(cells) != 2 and b"".join(cells).strip():
        return [], (LONG if len(cells[0]) > LONGEST else COLUMNS), 0
    texts, faults = zip(*map(text_of, cells), strict=True)
    side = next((side for side, fault in enumerate(faults) if fault), 0)
    return list(texts), faults[side], side


def _forgotten(arguments: tuple[str, str]) -> str:
    """The advice where the file of the second argument was forgotten."""
    return f"give the translations as {arguments[1]}, or "


def _rows(
    source, target, faults: str, report: PairReport, arguments: tuple[str, str]
) -> Iterator[tuple[str, str, str]]:
    """("file:line", source, target) of each pair that has no fault, in order."""
    if faults not in ("refuse", "drop"):
        raise InputError("faults", '"refuse" or "drop"', repr(faults), "choose one")
    if target is None:
        names, paths = (arguments[0],) * 2, (source,) * 2
        cells_of_lines = _columns(source, arguments[0])
    else:
        names, paths = arguments, (source, target)
        cells_of_lines = _aligned_lines(*paths, arguments)
    number, refused = 0, Faults(arguments[0])
    for number, cells in enumerate(cells_of_lines, 1):
        texts, fault, side = _texts(cells)
        place = f"{paths[side]}:{number}"
        if fault and faults == "drop":
            report.drop(fault, place)
        elif fault:
            refused.add(fault, place, names[side])
        elif not refused.count:  # after a fault, lines are read only to find the others
            yield place, *texts
    # Faulty in every line: the file is one side of two, and the target was forgotten.
    one_column = refused.reasons.get(COLUMNS) == number
    refused.refuse(FAULTS, _forgotten(arguments) + DROP if one_column else DROP)
    if not number:
        received = f"{source}, which is empty"
        raise InputError(arguments[0], "a file with text in it", received, "give another")


def _selected(rows, keep: Callable[[int], bool] | None):
    """The rows whose number `keep` accepts; without `keep` all of them."""
    return rows if keep is None else (row for n, row in enumerate(rows) if keep(n))


def read_pairs(
    source: str | Path,
    target: str | Path | None = None,
    *,
    faults: str = "refuse",
    keep: Callable[[int], bool] | None = None,
    report: PairReport | None = None,
    arguments: tuple[str, str] = ARGUMENTS,
) -> Iterator[tuple[str, str]]:
    r"""Read the pairs of two files aligned line by line, or of one TSV file, plain or gzip.

    Only \n and \r\n end a line. A byte-order mark at the beginning of a file is removed. A pair is
    faulty when one of its sides is empty, not UTF-8 or over 64 KiB. A line of a TSV file is also
    faulty when it is over 64 KiB or does not have exactly two columns.

    Args:
        source, target: the files. Without `target`, `source` has both sides, separated by a tab.
        faults: "refuse" yields nothing after the first faulty pair, and raises at the end of the
            file; "drop" skips faulty pairs and counts them in `report`.
        keep: a function that selects pairs by their number, from 0, among those without a fault.
            By default all pairs are read.
        report: counts the pairs kept and dropped.
        arguments: the names of the two files in an error.

    Raises:
        InputError: about all faulty pairs, the first ten with file and line. Also, with either
            value of `faults`, when the files have different numbers of lines, because it is not
            known which line is missing; and when a file is empty or cannot be read.

    >>> import tempfile
    >>> path, report = Path(tempfile.mkdtemp()) / "5.tsv", PairReport()
    >>> _ = path.write_text("one\teins\ntwo\tzwei\nthree\n\nfive\tfünf\n", encoding="utf-8")
    >>> list(read_pairs(path, faults="drop", report=report))
    [('one', 'eins'), ('two', 'zwei'), ('five', 'fünf')]
    >>> report.dropped
    {'not two columns': 1, 'empty': 1}
    """
    report = PairReport() if report is None else report
    for _, *pair in _selected(_rows(source, target, faults, report, arguments), keep):
        report.kept += 1
        yield tuple(pair)


@dataclass(frozen=True, eq=False)
class Pairs:
    """N pairs of id rows in a file: source, target, the next source, and so on.

    Attributes:
        file: all ids.
        source_lengths, target_lengths: int32 [N], without start and end.

    >>> pairs = Pairs(IdFile(Path("ids"), "uint8", 5), np.array([1, 2]), np.array([1, 1]))
    >>> len(pairs), pairs.starts.tolist()
    (2, [0, 2, 5])
    """

    file: IdFile
    source_lengths: np.ndarray
    target_lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.source_lengths)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where the ids of each pair begin, and where the last ones end: int64 [N + 1]."""
        lengths = self.source_lengths.astype(np.int64) + self.target_lengths
        return np.concatenate([[0], np.cumsum(lengths)])

    def moved(self, path: str | Path) -> Pairs:
        """Move the file to `path` and return the pairs there."""
        return replace(self, file=self.file.moved(Path(path)))


def _encode_rows(
    rows, tokenizers, limits: Limits, report: PairReport
) -> tuple[tf.Tensor, np.ndarray]:
    """Ids of the rows within the limits: flat int32, and their lengths int32 [2, kept]."""
    places, *texts = zip(*rows, strict=True)
    ids = [tokenizer.tokenize(list(t)) for tokenizer, t in zip(tokenizers, texts, strict=True)]
    lengths = np.stack([side.row_lengths().numpy() for side in ids]).astype(np.int32)
    reasons = limits.reasons(*lengths)
    for place, reason in zip(places, reasons.tolist(), strict=True):
        if reason:
            report.drop(reason, place)
    is_kept = reasons == ""
    source, target = (tf.ragged.boolean_mask(side, is_kept) for side in ids)
    report.kept += int(is_kept.sum())
    report.source_tokens += len(source.flat_values)
    report.target_tokens += len(target.flat_values)
    report.source_unknown += int(np.sum(source.flat_values == UNKNOWN))
    report.target_unknown += int(np.sum(target.flat_values == UNKNOWN))
    return tf.concat([source, target], axis=1).flat_values, lengths[:, is_kept]


def encode_pairs(
    source: str | Path,
    target: str | Path | None,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    out: str | Path,
    *,
    limits: Limits | None = None,
    faults: str = "refuse",
    keep: Callable[[int], bool] | None = None,
    arguments: tuple[str, str] = ARGUMENTS,
) -> tuple[Pairs, PairReport]:
    """Write the ids of all pairs within `limits` to the file `out`, in the order of the lines.

    The file appears complete or not at all. For a joint vocabulary pass the same tokenizer twice.

    Args:
        source, target, faults: as in `read_pairs`.
        limits: length limits of the pairs to keep; by default any length is kept.
        arguments: as in `read_pairs`.
        keep: as in `read_pairs`. With it the report counts the selected pairs, not faulty lines.

    Raises:
        InputError: as in `read_pairs`, and when no pair is left.
    """
    out, report, limits = Path(out), PairReport(), limits or Limits()
    tokenizers = (source_tokenizer, target_tokenizer)
    dtype = np.min_scalar_type(max(tokenizer.size for tokenizer in tokenizers) - 1)
    # With `keep` several calls read the same lines: each would count the same faults again.
    fault_report = report if keep is None else PairReport()
    rows, lengths = (
        _selected(_rows(source, target, faults, fault_report, arguments), keep),
        [np.zeros([2, 0], np.int32)],
    )
    with replacing(out) as partial:
        with partial.open("wb") as file:
            while chunk := list(itertools.islice(rows, LINES)):
                ids, chunk_lengths = _encode_rows(chunk, tokenizers, limits, report)
                file.write(ids.numpy().astype(dtype).tobytes())
                lengths.append(chunk_lengths)
        if not report.kept:
            advice = _forgotten(arguments) if COLUMNS in fault_report.dropped else ""
            step = f"{advice}change what is dropped"
            raise InputError(arguments[0], "pairs that can be used", report, step)
    lengths = np.concatenate(lengths, axis=1)
    return Pairs(IdFile(out, dtype.name, int(lengths.sum()), stamp(out)), *lengths), report
