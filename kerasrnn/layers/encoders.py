"""Encoders of a sentence: ids in, one vector for each position and one for the whole out.

B batch, S source time, E embedding, H units, D values.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

from kerasrnn.cells import CELLS
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.recurrent import Recurrent


class Encoded(NamedTuple):
    """What a decoder begins with.

    Attributes:
        values: [B, S, D], for each position.
        mask: bool [B, S].
        summary: [B, C], for the whole.
    """

    values: object
    mask: object
    summary: object


def recurrent(cell: str, units: int, name: str, **options) -> Recurrent:
    """A layer that gives all its outputs and its final states."""
    return Recurrent(
        CELLS[cell](units), return_sequences=True, return_state=True, name=name, **options
    )


def both_ways(cell: str, units: int, name: str) -> Bidirectional:
    return Bidirectional(recurrent(cell, units, "forward"), name=name)


class Encoder(keras.layers.Layer):
    """ids int32 [B, S], padded with 0 behind -> `Encoded`.

    A subclass makes `self.stack` in `make_layers` and defines `encode(x, mask, training)`.

    Args:
        size: of the vocabulary.
        embedding: E.
        cell: a name in `kerasrnn.cells.CELLS`.
        units: H.
        layers: depth.
        dropout: share of the inputs of every layer dropped.
    """

    def __init__(
        self,
        size: int,
        embedding: int = 256,
        cell: str = "gru",
        units: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "size": size,
            "embedding": embedding,
            "cell": cell,
            "units": units,
            "layers": layers,
            "dropout": dropout,
        }
        self.units = units
        self.embedding = keras.layers.Embedding(size, embedding, name="embedding")
        self.dropout = keras.layers.Dropout(dropout)
        self.stack = self.make_layers(cell, units, layers)
        self.values_size, self.summary_size = self.sizes()

    def make_layers(self, cell, units, layers) -> list:
        raise NotImplementedError

    def sizes(self) -> tuple[int, int]:
        """(D, C)."""
        return self.units, self.units

    def build(self, ids_shape):
        if not self.embedding.built:
            self.embedding.build(ids_shape)
        width = self.options["embedding"]
        for layer in self.stack:
            layer.build((None, None, width))
            width = self.width_after(layer)

    def width_after(self, layer) -> int:
        return 2 * self.units if isinstance(layer, Bidirectional) else self.units

    def call(self, ids, training=None):
        mask = ops.not_equal(ids, 0)
        x = self.dropout(self.embedding(ids), training=training)
        return self.encode(x, mask, training)

    def encode(self, x, mask, training) -> Encoded:
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), **self.options}


@keras.saving.register_keras_serializable(package="kerasrnn")
class BidirectionalEncoder(Encoder):
    """A stack of recurrences read both ways (Bahdanau et al. 2014, section 3.2).

    values [B, S, 2H] are the outputs of both directions, the summary [B, 2H] the outputs at the
    last word read in each direction.

    >>> encoded = BidirectionalEncoder(20, embedding=4, units=3)(ops.convert_to_tensor([[5, 6, 0]]))
    >>> encoded.values.shape, encoded.summary.shape
    (TensorShape([1, 3, 6]), TensorShape([1, 6]))
    """

    def make_layers(self, cell, units, layers):
        return [both_ways(cell, units, f"both_ways_{i}") for i in range(layers)]

    def sizes(self):
        return 2 * self.units, 2 * self.units

    def encode(self, x, mask, training):
        for i, layer in enumerate(self.stack):
            x = self.dropout(x, training=training) if i else x
            x, *states = layer(x, mask=mask, training=training)
        return Encoded(x, mask, _both_ends(states))


def _both_ends(states):
    """The first final state of each direction, side by side."""
    return ops.concatenate([states[0], states[len(states) // 2]], axis=-1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class StackedEncoder(Encoder):
    """A stack of recurrences in one direction (Sutskever et al. 2014).

    values [B, S, H]; the summary [B, H] is the top layer's final state.

    Args:
        size, embedding, cell, units, layers, dropout: as in `Encoder`.
        reverse: read the source from its last word to its first, as the paper does.
    """

    def __init__(self, *args, reverse: bool = False, **kwargs):
        self.reverse = reverse
        super().__init__(*args, **kwargs)

    def make_layers(self, cell, units, layers):
        return [
            recurrent(cell, units, f"recurrent_{i}", go_backwards=self.reverse and i == 0)
            for i in range(layers)
        ]

    def encode(self, x, mask, training):
        read = ops.flip(mask, axis=1) if self.reverse else mask
        for i, layer in enumerate(self.stack):
            x = self.dropout(x, training=training) if i else x
            x, *states = layer(x, mask=read if i else mask, training=training)
        values = ops.flip(x, axis=1) if self.reverse else x
        return Encoded(values, mask, states[0])

    def get_config(self):
        return {**super().get_config(), "reverse": self.reverse}


@keras.saving.register_keras_serializable(package="kerasrnn")
class GNMTEncoder(Encoder):
    """First layer both ways, above it a stack in one direction, residual from the third layer on
    (Wu et al. 2016, sections 3.1 and 3.2).

    values [B, S, H]; the summary [B, H] is the top layer's final state. `layers` counts the
    first one, and is 2 or more.
    """

    def make_layers(self, cell, units, layers):
        if layers < 2:
            raise ValueError(
                f"layers: expected 2 or more (the first reads both ways), received {layers}; "
                "use BidirectionalEncoder for one."
            )
        above = [recurrent(cell, units, f"recurrent_{i}") for i in range(1, layers)]
        return [both_ways(cell, units, "both_ways_0"), *above]

    def encode(self, x, mask, training):
        for i, layer in enumerate(self.stack):
            below = self.dropout(x, training=training) if i else x
            y, *states = layer(below, mask=mask, training=training)
            x = x + y if i > 1 else y
        return Encoded(x, mask, states[0])


@keras.saving.register_keras_serializable(package="kerasrnn")
class ConvolutionalEncoder(Encoder):
    """A convolutional n-gram model of the sentence (Kalchbrenner and Blunsom 2013, section 3).

    Layers of one-dimensional convolutions, each feature by itself (the paper's kernels), of
    widths 2, 3, 4 …, each followed by tanh; before them a Dense to H features. Unlike the
    paper's, every layer keeps the length S, so that a decoder can attend to the n-grams; the
    summary is their mean over the real positions instead of a convolution down to width one.
    `cell` is not used.

    values [B, S, H], summary [B, H].
    """

    def make_layers(self, cell, units, layers):
        convolutions = [
            keras.layers.DepthwiseConv1D(width, padding="same", name=f"convolution_{width}")
            for width in range(2, layers + 2)
        ]
        return [keras.layers.Dense(units, name="features"), *convolutions]

    def encode(self, x, mask, training):
        real = ops.cast(ops.expand_dims(mask, -1), x.dtype)
        for i, layer in enumerate(self.stack):
            x = layer(x * real)
            x = ops.tanh(x) if i else x
        x = x * real
        count = ops.maximum(ops.sum(real, axis=1), 1)
        return Encoded(x, mask, ops.sum(x, axis=1) / count)


ENCODERS = {
    "bidirectional": BidirectionalEncoder,
    "stacked": StackedEncoder,
    "reversed": lambda *args, **kwargs: StackedEncoder(*args, reverse=True, **kwargs),
    "gnmt": GNMTEncoder,
    "convolutional": ConvolutionalEncoder,
}
