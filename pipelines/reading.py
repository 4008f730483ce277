"""Files, plain or gzip, as blocks of bytes and as lines; nothing is held but the piece in hand."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError

CHUNK = 1 << 20  # bytes read at once
LONGEST = 1 << 16  # bytes of a line that is sure to be whole
TIMES, SPARE = 100, 1 << 28  # text unpacks to so many times its size, and so many bytes, at most
EMPTY, BROKEN, LONG = "empty", "not UTF-8", f"over {LONGEST >> 10} KiB"
LINE_FAULTS = {  # what a line must be, for each thing that can be wrong with it
    EMPTY: "text in every line",
    BROKEN: "UTF-8",
    LONG: f"lines of at most {LONGEST >> 10} KiB",
}


def blocks(path: str | Path, argument: str = "text", size: int = CHUNK) -> Iterator[bytes]:
    """The file's bytes, at most `size` at once, unpacked when they begin as gzip does.

    Raises:
        InputError: about `argument`, when the file is missing, unreadable, a pipe or broken gzip,
            or gzip that unpacks to more than text does.
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
                if unpacked > limit:  # a plain file never is
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
    """Refuse a file whose first bytes are those of UTF-16 (InputError)."""
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        next_step = "convert it: iconv -f UTF-16 -t UTF-8"
        raise InputError(argument, "UTF-8", f"{path}, which begins as UTF-16", next_step)


def lines(path: str | Path, argument: str = "text") -> Iterator[bytes]:
    r"""The file's lines without their ends, which are \n or \r\n and nothing else.

    A UTF-8 byte-order mark at the beginning is removed. Of a line longer than `LONGEST` only a
    part may come back, which is still longer than `LONGEST`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five"
    >>> _ = path.write_bytes(codecs.BOM_UTF8 + b"1 2\r\n\n3\n4\r5")
    >>> list(lines(path))
    [b'1 2', b'', b'3', b'4\r5']

    Raises:
        InputError: as `blocks` does, and when the file begins as UTF-16 does.
    """
    rest, mark = b"", codecs.BOM_UTF8
    for block in blocks(path, argument):
        if mark and not rest:
            refuse_utf16(block, path, argument)
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.removeprefix(mark).removesuffix(b"\r")
            mark = b""
        rest = rest[: LONGEST + len(codecs.BOM_UTF8) + 1]
    if rest:
        yield rest.removeprefix(mark)


def text_of(line: bytes) -> tuple[str, str]:
    r"""(text, what is wrong with it: a key of `LINE_FAULTS` or "").

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
    """SHA-256 of the files' bytes, in order: the same text has the same fingerprint."""
    digest = hashlib.sha256()
    for number, path in enumerate(paths):
        digest.update(b"\0" if number else b"")  # where a file ends is part of the text
        for block in blocks(path, argument):
            digest.update(block)
    return digest.hexdigest()
