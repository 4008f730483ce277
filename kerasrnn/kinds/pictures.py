"""Pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasrnn.kinds.kind import SIZES, Kind

CHANNELS = 3
RED = (255, 0, 30)


@dataclass(frozen=True)
class Image(Kind):
    """A picture in RGB: uint8 [B, height, width, 3], of any size.

    Args:
        size: pixels of a side that the model makes of it.
    """

    dtype = "uint8"
    axes = ("height", "width", CHANNELS)
    refusal = "image: expected an image or more, of a pixel or more"

    size: int = 128

    def cases(self, random):
        """Noise and one colour; smaller, larger and longer than the model's own size."""
        s = self.size
        sides = [(3 * s, 2 * s + 1), (1, 1), (s // 2, s - 1), (s, s)]
        sides += [(2, 5 * s), (s + 7, s), (s, s), (s, s + 1)]
        shapes = [(B, *side, CHANNELS) for B, side in zip(SIZES, sides, strict=True)]
        batches = [random.integers(0, 256, shape, np.uint8) for shape in shapes]
        batches[5][:] = RED
        return batches
