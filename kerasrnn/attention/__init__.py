"""Scores, masked softmax, cells that attend to a memory, losses of attention weights."""

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
