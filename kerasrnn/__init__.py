"""Recurrent sequence models for Keras 3 on TensorFlow. Names load what they need when used."""

from kerasrnn.lazy import loader

_PLACES = {
    "Bidirectional": "kerasrnn.layers",
    "Captioner": "kerasrnn.models.captioner",
    "CharTokenizer": "kerasrnn.text",
    "Ensemble": "kerasrnn.models.ensemble",
    "InputError": "kerasrnn.errors",
    "LanguageModel": "kerasrnn.models.language_model",
    "Recurrent": "kerasrnn.layers",
    "SentencePieceTokenizer": "kerasrnn.text",
    "Translator": "kerasrnn.models.translator",
    "WordTokenizer": "kerasrnn.text",
    "adopt": "kerasrnn.layers",
}
__all__ = list(_PLACES)
__getattr__ = loader(__name__, _PLACES)
