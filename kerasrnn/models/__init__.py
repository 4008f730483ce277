"""The language model, the translator, the captioner, ensembles, and how each is served."""

from kerasrnn.models.captioner import Captioner
from kerasrnn.models.ensemble import Ensemble
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.models.translator import Translator

__all__ = ["Captioner", "Ensemble", "LanguageModel", "Translator"]
