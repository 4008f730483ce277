"""Recurrent sequence models for Keras 3 on TensorFlow.

A public name imports its module when it is first used.
"""

from importlib.metadata import version

from kerasrnn.base.lazy import lazy
from kerasrnn.saved_classes import announce

# public name -> the module that has it
_PLACES = {
    "Bidirectional": "kerasrnn.layers",
    "Captioner": "kerasrnn.models.captioner",
    "CharTokenizer": "kerasrnn.text",
    "Ensemble": "kerasrnn.models.ensemble",
    "InputError": "kerasrnn.base.errors",
    "LanguageModel": "kerasrnn.models.language_model",
    "Recurrent": "kerasrnn.layers",
    "SentencePieceTokenizer": "kerasrnn.text",
    "Translator": "kerasrnn.models.translator",
    "WordTokenizer": "kerasrnn.text",
    "adopt": "kerasrnn.layers",
    "attention": "kerasrnn.attention",
    "attention_cells": "kerasrnn.attention_cells",
    "cells": "kerasrnn.cells",
    "distribution": "kerasrnn.distribution",
    "export": "kerasrnn.export",
    "layers": "kerasrnn.layers",
    "models": "kerasrnn.models",
    "pipelines": "kerasrnn.pipelines",
}
__all__ = list(_PLACES)
__version__ = version("kerasrnn")
__getattr__, __dir__ = lazy(__name__, _PLACES)
announce()
