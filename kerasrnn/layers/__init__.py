"""Layers over the recurrence engine."""

from kerasrnn.layers.recurrent import Recurrent

__all__ = ["Recurrent"]
