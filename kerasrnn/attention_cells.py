"""The cells of `kerasrnn.attention`, under the name that they had first."""

from kerasrnn.attention import BahdanauCell, HardCell, LuongCell

__all__ = ["BahdanauCell", "HardCell", "LuongCell"]
