"""Ids -> embedding -> recurrent layers -> logits.

B batch, T time, E embedding, H units, V vocabulary.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.cells import Cell, Dropout
from kerasrnn.cells.choice import cell_class
from kerasrnn.layers import Recurrent


@keras.saving.register_keras_serializable(package="kerasrnn")
class OneHot(keras.layers.Layer):
    """Ids [B, T] -> one-hot [B, T, V]."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, ids):
        return ops.one_hot(ids, self.size, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


class TokenStack:
    """The layers of a language model, as a mixin: what it computes of ids, without any text.

    Its `options` are those of `LanguageModel`; `make_layers` makes the layers of them.
    """

    options: dict

    # --- layers ---

    def make_layers(self, size: int) -> None:
        """Make the layers for V = `size` ids."""
        o, policy = self.options, self.dtype_policy
        self.embedding = _embedding(size, o["embedding"], o["tied"], policy)
        shared = {"noise_shape": (None, 1, None), "dtype": policy}  # one mask for all steps
        self.dropouts = [
            keras.layers.Dropout(o["dropout"], name=f"dropout_{i}", **shared)
            for i in range(o["layers"] + 1)
        ]
        returned = {"return_sequences": True, "return_state": True, "dtype": policy}
        self.recurrent = [
            Recurrent(_cell(o, policy), name=f"recurrent_{i}", **returned)
            for i in range(o["layers"])
        ]
        # Logits stay float32 in mixed precision.
        readout = keras.layers.Dense(size, dtype="float32", name="readout")
        self.readout = None if o["tied"] else readout

    def build_layers(self, ids_shape) -> None:
        """Build the layers for ids of shape [B, T]."""
        ids = keras.KerasTensor(ids_shape, "int32")
        self.embedding.build(ids_shape)
        shape = (None, None, self.embedding.compute_output_shape(ids.shape)[-1])
        for layer in self.recurrent:
            layer.build(shape)
            shape = (None, None, layer.cell.output_size)
        if self.readout is not None:
            self.readout.build(shape)

    # --- graph ---

    def forward(self, ids, state=None, *, mask=None, training=None):
        """Ids [B, T], the state before, their mask [B, T] -> logits [B, T, V], the state after."""
        x, after = self.embedding(ids), []
        for i, layer in enumerate(self.recurrent):
            x = self.dropouts[i](x, training=training)
            initial = None if state is None else state[i]
            x, *own = layer(x, mask=mask, initial_state=initial, training=training)
            after.append(own)
        return self.logits(self.dropouts[-1](x, training=training)), after

    def logits(self, x):
        """Outputs of the last layer [..., H] -> logits [..., V]."""
        if self.readout is not None:
            return self.readout(x)
        # A new tensor carries no implicit Keras mask, of which this layer would warn.
        return self.embedding(tf.identity(x), reverse=True)

    def step(self, ids, state):
        """One step of decoding: ids [B], state -> logits [B, V], state."""
        x, after = self.embedding(ids), []
        for layer, own in zip(self.recurrent, state, strict=True):
            x, own = layer.cell(x, own, training=False)
            after.append(list(own))
        return self.logits(x), after

    def initial_state(self, rows):
        """The state before any text: for each layer a list of [rows, H]."""
        return [tf.nest.flatten(layer.cell.initial_state(rows)) for layer in self.recurrent]

    def _nested(self, flat: list) -> list[list]:
        """A flat list of states as a list for each layer."""
        flat = iter(flat)
        return [[next(flat) for _ in _sizes(layer)] for layer in self.recurrent]


def _embedding(size: int, width: int | str, tied: bool, policy) -> keras.layers.Layer:
    if width == "one-hot":
        return OneHot(size, dtype=policy, name="embedding")
    # Tied weights also make logits, which must begin small.
    spread = keras.initializers.RandomNormal(stddev=width**-0.5 if tied else 1.0)
    return keras.layers.ReversibleEmbedding(
        size,
        width,
        embeddings_initializer=spread,
        reverse_dtype="float32",
        dtype=policy,
        name="embedding",
    )


def _cell(options: dict, policy) -> Cell:
    cell = cell_class(options["cell"])(options["units"], dtype=policy)
    if not options["recurrent_dropout"]:
        return cell
    return Dropout(cell, recurrent_rate=options["recurrent_dropout"], dtype=policy)


def _sizes(layer: Recurrent) -> list[int]:
    """H of each state tensor of a recurrent layer."""
    return tf.nest.flatten(layer.cell.state_size)
