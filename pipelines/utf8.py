"""Decodes bytes line by line; lines that are not UTF-8 are reported and left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.pipelines.reading import BROKEN


class Decoder:
    """Turns a file's bytes, block by block, into text without the lines that are not UTF-8.

    Args:
        path: path of the file, for messages.
        fault: called for each such line with the reason and "file:line".
        chunk: number of bytes after which a line without an end is cut.

    >>> faults = []
    >>> decode = Decoder("five", lambda *fault: faults.append(fault), 100)
    >>> decode(b"1\\n2\\xff\\n3\\n4"), decode(b"5", final=True), faults
    ('1\\n3\\n', '45', [('not UTF-8', 'five:2')])
    """

    def __init__(self, path: str | Path, fault: Callable[[str, str], None], chunk: int):
        self.path, self.fault, self.chunk = path, fault, chunk
        self.pending, self.line, self.first = b"", 1, True

    def __call__(self, block: bytes, final: bool = False) -> str:
        """The text of the next block; an incomplete last line waits for the next call."""
        raw = self.pending + block
        cut = len(raw) if final else self._whole(raw)
        raw, self.pending = raw[:cut], raw[cut:]
        # Nearly always the whole block is UTF-8; only a bad block is read line by line.
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = self._good_lines(raw)
        self.line += raw.count(b"\n")
        if self.first and text:
            self.first, text = False, text.removeprefix("\ufeff")
        return text

    def _good_lines(self, raw: bytes) -> str:
        """The text of the lines that are UTF-8."""
        good, lines = [], raw.split(b"\n")
        for number, line in enumerate(lines, self.line):
            try:
                good.append(line.decode() + "\n" * (number - self.line + 1 < len(lines)))
            except UnicodeDecodeError:
                self.fault(BROKEN, f"{self.path}:{number}")
        return "".join(good)

    def _whole(self, raw: bytes) -> int:
        """Where bytes may be cut: after a line break, or in a long line between characters."""
        cut = raw.rfind(b"\n") + 1
        if cut or len(raw) < self.chunk:
            return cut
        # Bytes 10xxxxxx continue a character of at most four bytes: cut before its first byte.
        tail = next((n for n in range(1, min(5, len(raw) + 1)) if raw[-n] & 0xC0 != 0x80), 0)
        return len(raw) - tail
