"""What is minimised, and what is reported."""

from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity
from kerasrnn.losses.tokens import TokenCrossEntropy

__all__ = ["BitsPerCharacter", "Nats", "Perplexity", "TokenCrossEntropy"]
