"""Scores, masked softmax, the cells that look at a memory, what attention adds to a loss."""

from kerasrnn.attention.cells import BahdanauCell, HardCell, LuongCell
from kerasrnn.attention.losses import doubly_stochastic, entropy, reinforce
from kerasrnn.attention.scores import (
    ATTENTIONS,
    Additive,
    Attention,
    Bilinear,
    Dot,
    GatedAttention,
    Memory,
    ScaledDot,
    masked_softmax,
)

__all__ = [
    "ATTENTIONS",
    "Additive",
    "Attention",
    "BahdanauCell",
    "Bilinear",
    "Dot",
    "GatedAttention",
    "HardCell",
    "LuongCell",
    "Memory",
    "ScaledDot",
    "doubly_stochastic",
    "entropy",
    "masked_softmax",
    "reinforce",
]
