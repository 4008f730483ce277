"""Recurrent sequence models for Keras 3 on TensorFlow. Names load what they need when used."""

from importlib import import_module

_PLACES = {
    "Bidirectional": "kerasrnn.layers",
    "CharTokenizer": "kerasrnn.text",
    "InputError": "kerasrnn.errors",
    "LanguageModel": "kerasrnn.models.language_model",
    "Recurrent": "kerasrnn.layers",
    "SentencePieceTokenizer": "kerasrnn.text",
    "WordTokenizer": "kerasrnn.text",
    "adopt": "kerasrnn.layers",
}
__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
