"""Encode a sentence of ids as one vector for each position and one for the whole sentence.

B batch, S source time, E embedding, H units, D values, C summary.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

from kerasrnn.cells.choice import cell_class, cell_name
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.recurrent import Recurrent


class Encoded(NamedTuple):
    """The result of an encoder, from which a decoder begins.

    Attributes:
        values: float [B, S, D], one vector for each position.
        mask: bool [B, S], False at padding.
        summary: float [B, C], one vector for the whole sentence.
    """

    values: object
    mask: object
    summary: object


def recurrent(cell: str | type, units: int, name: str, **options) -> Recurrent:
    """Return a recurrent layer that returns all its outputs and its final states.

    Args:
        cell: a name in `kerasrnn.cells.CELLS`, or a class.
        units: H.
        name: of the layer.
        options: of `Recurrent`.
    """
    return Recurrent(
        cell_class(cell)(units), return_sequences=True, return_state=True, name=name, **options
    )


def both_ways(cell: str | type, units: int, name: str) -> Bidirectional:
    """Return `recurrent` in both directions; its outputs are [B, S, 2H]."""
    return Bidirectional(recurrent(cell, units, "forward"), name=name)


class Encoder(keras.layers.Layer):
    """Base class: turns ids int32 [B, S], padded with 0 at the end, into `Encoded`.

    A subclass defines `make_layers`, which returns the stack of layers, and
    `encode(x, mask, training)`.

    Args:
        size: the size of the vocabulary.
        embedding: E.
        cell: a name in `kerasrnn.cells.CELLS`, or a class.
        units: H.
        layers: the number of layers.
        dropout: the share of every layer's inputs that is dropped in training.
    """

    def __init__(
        self,
        size: int,
        embedding: int = 256,
        cell: str | type = "gru",
        units: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "size": size,
            "embedding": embedding,
            "cell": cell_name(cell),
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
        """Return the layers of the stack, the lowest first."""
        raise NotImplementedError

    def sizes(self) -> tuple[int, int]:
        """Return (D, C), the sizes of values and summary."""
        return self.units, self.units

    def build(self, ids_shape):
        if not self.embedding.built:
            self.embedding.build(ids_shape)
        width = self.options["embedding"]
        for layer in self.stack:
            layer.build((None, None, width))
            width = self.width_after(layer)

    def width_after(self, layer) -> int:
        """Return the size of a layer's outputs."""
        return 2 * self.units if isinstance(layer, Bidirectional) else self.units

    def call(self, ids, training=None):
        mask = ops.not_equal(ids, 0)
        x = self.dropout(self.embedding(ids), training=training)
        return self.encode(x, mask, training)

    def encode(self, x, mask, training) -> Encoded:
        """Run the stack over the embedded words x [B, S, E]."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), **self.options}


@keras.saving.register_keras_serializable(package="kerasrnn")
class BidirectionalEncoder(Encoder):
    """A stack of recurrences in both directions (Bahdanau et al. 2014, section 3.2).

    values [B, S, 2H] are the outputs of both directions. The summary [B, 2H] holds the output of
    each direction after its last word.

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
        return Encoded(x, mask, _final_outputs(states))


def _final_outputs(states):
    """Return the final outputs of both directions, side by side."""
    # The first state of a cell is its output; an LSTM has a second one.
    return ops.concatenate([states[0], states[len(states) // 2]], axis=-1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class StackedEncoder(Encoder):
    """A stack of recurrences in one direction (Sutskever et al. 2014).

    values [B, S, H]; the summary [B, H] is the top layer's final state.

    Args:
        size, embedding, cell, units, layers, dropout: as in `Encoder`.
        reverse: read the source from its last word to its first, as in the paper.
    """

    def __init__(self, *args, reverse: bool = False, **kwargs):
        self.reverse = reverse  # before super().__init__, which calls make_layers
        super().__init__(*args, **kwargs)

    def make_layers(self, cell, units, layers):
        return [
            recurrent(cell, units, f"recurrent_{i}", go_backwards=self.reverse and i == 0)
            for i in range(layers)
        ]

    def encode(self, x, mask, training):
        # The first layer reads backwards, so its outputs and the inputs of all later layers are
        # reversed, with padding in front. Their mask is reversed too.
        reversed_mask = ops.flip(mask, axis=1) if self.reverse else mask
        for i, layer in enumerate(self.stack):
            x = self.dropout(x, training=training) if i else x
            x, *states = layer(x, mask=reversed_mask if i else mask, training=training)
        values = ops.flip(x, axis=1) if self.reverse else x  # in the order of the source again
        return Encoded(values, mask, states[0])

    def get_config(self):
        return {**super().get_config(), "reverse": self.reverse}


@keras.saving.register_keras_serializable(package="kerasrnn")
class GNMTEncoder(Encoder):
    """The encoder of Google's translator: one bidirectional layer, then a residual stack.

    From the third layer on each layer adds its input to its output (Wu et al. 2016, sections 3.1
    and 3.2). values [B, S, H]; the summary [B, H] is the top layer's final state. `layers` counts
    the bidirectional layer too.

    Raises:
        ValueError: if `layers` is below 2.
    """

    def make_layers(self, cell, units, layers):
        if layers < LEAST_LAYERS["gnmt"]:
            raise ValueError(
                f"layers: expected 2 or more (the first reads both ways), received {layers}; "
                "use BidirectionalEncoder for one."
            )
        upper_layers = [recurrent(cell, units, f"recurrent_{i}") for i in range(1, layers)]
        return [both_ways(cell, units, "both_ways_0"), *upper_layers]

    def encode(self, x, mask, training):
        for i, layer in enumerate(self.stack):
            inputs = self.dropout(x, training=training) if i else x
            y, *states = layer(inputs, mask=mask, training=training)
            x = x + y if i > 1 else y  # their sizes differ in layers 0 and 1
        return Encoded(x, mask, states[0])


@keras.saving.register_keras_serializable(package="kerasrnn")
class ConvolutionalEncoder(Encoder):
    """A convolutional n-gram model of the sentence (Kalchbrenner and Blunsom 2013, section 3).

    A Dense layer to H features, then one-dimensional convolutions of widths 2, 3, 4 …, each
    followed by tanh. As in the paper, each feature is convolved alone. Unlike in the paper, every
    layer keeps the length S, so that a decoder can attend to the n-grams; and the summary is the
    mean over the real positions, not a convolution down to width one. `cell` is not used.

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
            x = layer(x * real)  # zeros at padding, which the convolutions reach
            x = ops.tanh(x) if i else x
        x = x * real
        count = ops.maximum(ops.sum(real, axis=1), 1)  # a row of padding only has no positions
        return Encoded(x, mask, ops.sum(x, axis=1) / count)


ENCODERS = {
    "bidirectional": BidirectionalEncoder,
    "stacked": StackedEncoder,
    "reversed": lambda *args, **kwargs: StackedEncoder(*args, reverse=True, **kwargs),
    "gnmt": GNMTEncoder,
    "convolutional": ConvolutionalEncoder,
}
LEAST_LAYERS = {"gnmt": 2}  # of an encoder that needs more than one
