"""Models: text in, text out."""

from kerasrnn.models.ensemble import Ensemble
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.models.translator import Translator

__all__ = ["Ensemble", "LanguageModel", "Translator"]
