"""Keras finds our classes in a saved model after `import kerasrnn` alone.

A `.keras` file names each class, and Keras knows a class once its module was imported. Importing
all of them takes TensorFlow, which `import kerasrnn` must not. So Keras is told of stand-ins,
which import a class where a model with it is loaded.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from importlib import import_module

CELLS = "kerasrnn.cells."
# module -> the classes in it that Keras saves
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
    """Tell Keras of every class, now or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Registers once Keras is there; then it goes."""

    def find_spec(self, name, path, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                _register()

            spec.loader.exec_module = exec_module
        return spec


def _register() -> None:
    import keras

    known = keras.saving.get_custom_objects()
    for module, names in PLACES.items():
        for name in names.split():
            known.setdefault(f"kerasrnn>{name}", _stand_in(module, name))


def _stand_in(module: str, name: str) -> type:
    """A class whose `from_config` is that of the class it stands for."""

    def from_config(config):
        return getattr(import_module(module), name).from_config(config)

    return type(name, (), {"__module__": module, "from_config": staticmethod(from_config)})
