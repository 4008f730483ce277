"""Numbers: of a row, of each step, for all rows at once; ids; where a model looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasrnn.kinds.kind import SIZES, Kind, unsaid

LENGTHS = (7, 1, 3, 5, 40, 2, 4, 1)  # T of each case


@dataclass(frozen=True)
class Number(Kind):
    """A number for each row: float32 [B], or [B, N] for the N best."""

    def parse(self, typed):
        return np.array(float(typed), np.float32)

    def cases(self, random):
        scales = (1.0, 0.0, 100.0, 1.0, -100.0, 1e-4, 1.0, 3.0)
        normal = [random.normal(size=size) for size in SIZES]
        return [(s * x).astype(np.float32) for s, x in zip(scales, normal, strict=True)]

    def line(self, value) -> str:
        return f"{value:.6g}"


@dataclass(frozen=True)
class Series(Kind):
    """A sequence of numbers: float32 [B, T, D].

    Args:
        width: D.
    """

    width: int = 1

    def parse(self, typed):
        """Numbers with spaces between them; of several in a step all of the first step first."""
        return np.array(typed.split(), np.float32).reshape(-1, self.width)

    @property
    def axes(self):
        return ("T", self.width)

    def cases(self, random):
        shapes = zip(SIZES, LENGTHS, strict=True)
        batches = [random.normal(size=(B, T, self.width)).astype(np.float32) for B, T in shapes]
        batches[1][:], batches[2][:] = 0.0, 100.0 * batches[2]
        return batches

    def line(self, value) -> str:
        return "\n".join(" ".join(f"{x:.6g}" for x in step) for step in value)


@dataclass(frozen=True)
class Ids(Kind):
    """Ids of tokens: int32 [B, T], or [B, N, T] for the N best; 0 is padding.

    Args:
        size: how many ids there are, for what is tried.
    """

    dtype = "int32"
    axes = ("T",)

    size: int = unsaid(10)

    def cases(self, random):
        shapes = zip(SIZES, LENGTHS, strict=True)
        return [random.integers(0, self.size, shape, np.int32) for shape in shapes]


@dataclass(frozen=True)
class Attention(Kind):
    """Where the model looked at each step.

    Args:
        over: the place that it looked at: "image", of which it is a grid, or the tokens of a text.
    """

    over: str = ""

    @property
    def axes(self):
        return ("T", "grid", "grid") if self.over == "image" else ("T", "S")


@dataclass(frozen=True)
class State(Kind):
    """What one call hands to the next: [B, width], or [B] without a width. It may be left out.

    Args:
        width: of each row's state.
        number: "int32" or "float32".
        default: what each number is where it is left out.
        tried: what numbers a model is tried on; where there are none, normal ones.
    """

    width: int | None = None
    number: str = "float32"
    default: float = unsaid(0)
    tried: Sequence[float] = unsaid(())

    @property
    def dtype(self):
        return self.number

    @property
    def axes(self):
        return () if self.width is None else (self.width,)

    def cases(self, random):
        shapes = [(B, *self.axes) for B in SIZES]
        if not self.tried:
            return [random.normal(size=shape).astype(self.dtype) for shape in shapes]
        return [random.choice(self.tried, shape).astype(self.dtype) for shape in shapes]


@dataclass(frozen=True)
class Choice(Kind):
    """A number that the user chooses, one for all rows.

    Args:
        kind: "int32" or "float32".
        least, most: its range; None for no end.
        default: what it is where the user says nothing.
        tried: what a model is tried on.
    """

    batched = False

    number: str = "int32"
    least: float = 0
    most: float | None = None
    default: float = 0
    tried: Sequence[float] = unsaid((0, 1))

    @property
    def dtype(self):
        return self.number

    def cases(self, random):
        count = len(self.tried)
        return [np.array(self.tried[i % count], self.dtype) for i in range(len(SIZES))]
