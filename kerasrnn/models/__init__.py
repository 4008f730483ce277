"""Models of sequences: text in, text out."""

from kerasrnn.models.language_model import LanguageModel

__all__ = ["LanguageModel"]
