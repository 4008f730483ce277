"""Losses and metrics of tokens."""

from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity
from kerasrnn.losses.tokens import TokenCrossEntropy

__all__ = ["BitsPerCharacter", "Nats", "Perplexity", "TokenCrossEntropy"]
