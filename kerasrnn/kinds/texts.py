"""Strings: texts, their tokens, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasrnn.kinds.kind import Kind, unsaid

UNKNOWN = "\U0001f989 \u0bb9\u5b57\u3000\u2028 \u200d\0a"  # no model has seen all of it
LONG = 80  # pieces of the longest text, or twice as many


def strings(values: Sequence[str]) -> np.ndarray:
    """An array of strings, as runtimes take it."""
    return np.array(values, object)


@dataclass(frozen=True)
class Text(Kind):
    """A string, of any length.

    Args:
        lines: whether it may have several lines.
        pieces: what the model knows.
        separator: stands between two of them.
    """

    dtype = "str"

    lines: bool = False
    pieces: Sequence[str] = unsaid(("a", "b"))
    separator: str = unsaid("")

    def parse(self, typed):
        return np.array(typed, object)

    def row(self, value):
        return value if isinstance(value, str) else value.tolist()

    def cases(self, random):
        def text(count: int) -> str:
            # Two texts of a model are of different lengths then.
            count = random.integers(max(1, count // 2), 2 * count)
            return self.separator.join(random.choice(self.pieces, count))

        batches = [
            [text(8)],
            [""],
            ["", ""],
            random.permutation([text(3), text(12), "", UNKNOWN, " ", text(2)[:3]]).tolist(),
            [text(LONG)],
            [text(5), "\n"],
            [text(12) for _ in range(4)],
            [text(2)],
        ]
        return [strings(batch) for batch in batches]


@dataclass(frozen=True)
class Label(Text):
    """One of a few names."""


@dataclass(frozen=True)
class Pieces(Kind):
    """The text of each token, "" behind the last: string [B, T].

    Args:
        axis: the name of T.
    """

    dtype = "str"

    axis: str = unsaid("T")

    @property
    def axes(self):
        return (self.axis,)

    def row(self, value):
        return [piece for piece in value.tolist() if piece]
