"""Layers over the recurrence engine."""

from kerasrnn.layers.adoption import adopt
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.recurrent import Recurrent

__all__ = ["Bidirectional", "Recurrent", "adopt"]
