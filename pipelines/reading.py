"""Reads files, plain or gzip, as blocks of bytes or as lines, one piece at a time."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError

CHUNK = 1 << 20  # bytes read at once
LONGEST = 1 << 16  # bytes of the longest line that is surely complete
TIMES, SPARE = 100, 1 << 28  # gzip of text unpacks to at most TIMES its size plus SPARE bytes
EMPTY, BROKEN, LONG = "empty", "not UTF-8", f"over {LONGEST >> 10} KiB"
LINE_FAULTS = {  # for each fault, what a line must be instead
    EMPTY: "text in every line",
    BROKEN: "UTF-8",
    LONG: f"lines of at most {LONGEST >> 10} KiB",
}


def blocks(path: str | Path, argument: str = "text", size: int = CHUNK) -> Iterator[bytes]:
    """Read a file in blocks of at most `size` bytes. A file that begins like gzip is unpacked.

    Raises:
        InputError: about `argument`, when the file is missing, unreadable, a pipe, broken gzip, or
            gzip that unpacks to more than text would.
    """
    path, unpacked = Path(path), 0
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            expected = "a file that can be read twice"
            raise InputError(argument, expected, path, "write it to a file")
        with path.open("rb") as file:
            unpack = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with unpack(path, "rb") as file:
            limit = TIMES * path.stat().st_size + SPARE
            while block := file.read(size):
                unpacked += len(block)
                if unpacked > limit:  # never true of a plain file
                    expected = f"gzip of text, which is at most {TIMES} times as long"
                    step = "unpack it first if you trust it"
                    raise InputError(argument, expected, f"{path}, which is longer", step)
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        received = f"{path} ({error})"
        raise InputError(argument, "a whole gzip file", received, "repack it") from error
    except OSError as error:
        received = f"{path} ({error.strerror})"
        raise InputError(argument, "a file that can be read", received, "check it") from error


def refuse_utf16(block: bytes, path: str | Path, argument: str) -> None:
    """Refuse a file that begins like UTF-16 (InputError)."""
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        next_step = "convert it: iconv -f UTF-16 -t UTF-8"
        raise InputError(argument, "UTF-8", f"{path}, which begins as UTF-16", next_step)


def lines(path: str | Path, argument: str = "text") -> Iterator[bytes]:
    r"""Read the lines of a file without their ends; only \n and \r\n end a line.

    A UTF-8 byte-order mark at the beginning is removed. A line longer than `LONGEST` may be cut,
    but what remains is still longer than `LONGEST`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five"
    >>> _ = path.write_bytes(codecs.BOM_UTF8 + b"1 2\r\n\n3\n4\r5")
    >>> list(lines(path))
    [b'1 2', b'', b'3', b'4\r5']

    Raises:
        InputError: as in `blocks`, and when the file begins like UTF-16.
    """
    pending, bom = b"", codecs.BOM_UTF8
    for block in blocks(path, argument):
        if bom and not pending:
            refuse_utf16(block, path, argument)
        *complete, pending = (pending + block).split(b"\n")
        for line in complete:
            yield line.removeprefix(bom).removesuffix(b"\r")
            bom = b""
        # A line without an end must not fill the memory. The byte-order mark and \r come off later.
        pending = pending[: LONGEST + len(codecs.BOM_UTF8) + 1]
    if pending:
        yield pending.removeprefix(bom)


def text_of(line: bytes) -> tuple[str, str]:
    r"""(text, its fault as a key of `LINE_FAULTS`, or "").

    >>> [text_of(line) for line in (b"1 2", b" ", b"\xff", b"4" * 70_000, "é".encode())]
    [('1 2', ''), (' ', 'empty'), ('', 'not UTF-8'), ('', 'over 64 KiB'), ('é', '')]
    """
    if len(line) > LONGEST:
        return "", LONG
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "", BROKEN
    return text, "" if text.strip() else EMPTY


def fingerprint(paths: Iterable[str | Path], argument: str = "text") -> str:
    """SHA-256 of the bytes of all files, in order; gzip and plain text give the same."""
    digest = hashlib.sha256()
    for number, path in enumerate(paths):
        digest.update(b"\0" if number else b"")  # the borders of files count too
        for block in blocks(path, argument):
            digest.update(block)
    return digest.hexdigest()
