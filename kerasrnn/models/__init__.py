"""Models: text in, text out."""

from kerasrnn.models.language_model import LanguageModel
from kerasrnn.models.translator import Translator

__all__ = ["LanguageModel", "Translator"]
