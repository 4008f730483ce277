"""Lets Keras find our classes in a saved model after `import kerasrnn` alone.

A `.keras` file names each class, and Keras knows a class only after its module was imported.
Importing all modules would import TensorFlow, which `import kerasrnn` must not do. So stand-ins are
registered with Keras. A stand-in imports its class when a model with that class is loaded.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from importlib import import_module

CELLS = "kerasrnn.cells."
# module -> the classes in it that Keras saves, separated by spaces
PLACES = {
    "kerasrnn.attention.scores": "Additive Bilinear Dot GatedAttention ScaledDot",
    "kerasrnn.attention.cells": "BahdanauCell HardCell LuongCell",
    f"{CELLS}gru": "GRU",
    f"{CELLS}highway": "RecurrentHighway",
    f"{CELLS}jordan": "Jordan",
    f"{CELLS}layer_norm": "LayerNormLSTM",
    f"{CELLS}lstm": "LSTM",
    f"{CELLS}lstm_variants": (
        "CoupledLSTM CoupledPeepholeLSTM FullGateRecurrenceLSTM NoForgetGateLSTM "
        "NoInputActivationLSTM NoInputGateLSTM NoOutputActivationLSTM NoOutputGateLSTM PeepholeLSTM"
    ),
    f"{CELLS}mut": "MUT1 MUT2 MUT3",
    f"{CELLS}running": "Autoregressive ExponentialAverage RunningMaximum RunningProduct RunningSum",
    f"{CELLS}simple_rnn": "SimpleRNN",
    f"{CELLS}wrappers": "Dropout LayerNorm Residual Zoneout",
    "kerasrnn.layers.bidirectional": "Bidirectional",
    "kerasrnn.layers.decoder": "Decoder",
    "kerasrnn.layers.encoders": (
        "BidirectionalEncoder ConvolutionalEncoder GNMTEncoder StackedEncoder"
    ),
    "kerasrnn.layers.images": "Coordinates ImageEncoder",
    "kerasrnn.layers.recurrent": "Recurrent",
    "kerasrnn.losses.metrics": "BitsPerCharacter Nats Perplexity",
    "kerasrnn.losses.tokens": "TokenCrossEntropy",
    "kerasrnn.models.captioner": "Captioner",
    "kerasrnn.models.language_model": "LanguageModel",
    "kerasrnn.models.token_stack": "OneHot",
    "kerasrnn.models.translator": "Translator",
    "kerasrnn.training.optimizers": "InverseSquareRoot",
    "kerasrnn.text.tokenizers": "CharTokenizer SentencePieceTokenizer WordTokenizer",
}


def announce() -> None:
    """Register a stand-in of every class with Keras, now or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """An import hook that registers the stand-ins right after Keras is imported."""

    def find_spec(self, name, path, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)  # the search for the spec below must not come back here
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _register()

            spec.loader.exec_module = exec_module
        return spec


def _register() -> None:
    """Register the stand-ins with Keras; a class that is registered already stays."""
    import keras

    registry = keras.saving.get_custom_objects()
    for module, names in PLACES.items():
        for name in names.split():
            registry.setdefault(f"kerasrnn>{name}", _stand_in(module, name))


def _stand_in(module: str, name: str) -> type:
    """A class whose `from_config` imports the real class and calls its `from_config`."""

    def from_config(config):
        return getattr(import_module(module), name).from_config(config)

    return type(name, (), {"__module__": module, "from_config": staticmethod(from_config)})
