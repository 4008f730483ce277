"""The decoder: one for every model that writes a sentence about something.

B batch, T target time, S source time, E embedding, H units, C summary, D values, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops, tree

from kerasrnn.attention.cells import BahdanauCell, HardCell, LuongCell
from kerasrnn.attention.scores import ATTENTIONS, GatedAttention
from kerasrnn.cells.base import matmul
from kerasrnn.cells.choice import cell_class, cell_name
from kerasrnn.compat.keras import AutocastScope
from kerasrnn.layers.encoders import Encoded
from kerasrnn.layers.readout import Readout
from kerasrnn.layers.recurrent import Recurrent

CONDITIONINGS = {
    "once": None,  # the initial state alone (Sutskever et al. 2014)
    "every_step": None,  # the summary is an input of every step (Cho et al. 2014)
    "first_input": None,  # the summary is read like a word, before the first (Vinyals et al. 2014)
    "attention": BahdanauCell,
    "luong": lambda *made: LuongCell(*made, input_feeding=False),
    "input_feeding": LuongCell,
    # Xu et al. 2015, soft and hard
    "gated": lambda cell, attention, *made, **options: BahdanauCell(
        cell, GatedAttention(attention), *made, **options
    ),
    "hard": lambda cell, attention, *made, **options: HardCell(
        cell, GatedAttention(attention), *made, **options
    ),
}
FED = ("attention", "gated", "hard")  # conditionings whose cell is fed what it looks at


class AttentionTrace(NamedTuple):
    """Where a decoder looked at every step.

    Attributes:
        weights: float32 [B, T, S].
        place: float32 [B, T, S], the places drawn by hard attention, see `HardCell`; else None.
    """

    weights: object
    place: object = None


@keras.saving.register_keras_serializable(package="kerasrnn")
class Decoder(Readout, keras.layers.Layer):
    """Writes ids one after the other, about what an encoder has read.

    `start(encoded) -> state` and `step(ids, state, memory) -> (logits, state, weights)` are one
    step of decoding; called on all ids of a target (teacher forcing) it runs the same cells over
    time. The first layer is conditioned on the source; layers above it (Wu et al. 2016) see the
    one below and its context, and add what they find to the one below (residual).

    The readout is one of `READOUTS`, see `Readout`.

    Args:
        size: V.
        embedding: E.
        cell: a name in `kerasrnn.cells.CELLS`, or a class.
        units: H; also the attention's.
        layers: depth.
        conditioning: a name in `CONDITIONINGS`.
        attention: a name in `kerasrnn.attention.ATTENTIONS`, where the conditioning is one.
        readout: one of `READOUTS`.
        dropout: share dropped of the embedding, between layers and before the readout.
        context_dropout: `dropout` of `BahdanauCell`, where the conditioning is one of `FED`.

    Raises:
        ValueError: on a context dropout where no context is fed.
    """

    # --- layers ---

    def __init__(
        self,
        size: int,
        embedding: int = 256,
        cell: str = "gru",
        units: int = 256,
        layers: int = 1,
        conditioning: str = "attention",
        attention: str = "additive",
        readout: str = "maxout",
        dropout: float = 0.0,
        context_dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "size": size,
            "embedding": embedding,
            "cell": cell_name(cell),
            "units": units,
            "layers": layers,
            "conditioning": conditioning,
            "attention": attention,
            "readout": readout,
            "dropout": dropout,
            "context_dropout": context_dropout,
        }
        if context_dropout and conditioning not in FED:
            raise ValueError(
                f"context_dropout: expected 0 with conditioning={conditioning}, received "
                f"{context_dropout}; it is of {', '.join(FED)}."
            )
        self.embedding = keras.layers.Embedding(size, embedding, name="embedding")
        self.dropout = keras.layers.Dropout(dropout)

    @property
    def attends(self) -> bool:
        return CONDITIONINGS[self.options["conditioning"]] is not None

    def build(self, ids_shape, encoded_shape):
        """For ids [B, T] and the shapes of an `Encoded`."""
        o, H = self.options, self.options["units"]
        values_size, summary_size = encoded_shape[0][-1], encoded_shape[2][-1]
        if not self.embedding.built:
            self.embedding.build(ids_shape)
        every_step = summary_size if o["conditioning"] == "every_step" else 0
        self.context_size = values_size if self.attends else every_step
        cells = [cell_class(o["cell"])(H, name=f"cell_{i}") for i in range(o["layers"])]
        if self.attends:
            wrap, drop = CONDITIONINGS[o["conditioning"]], o["context_dropout"]
            options = {"dropout": drop} if drop else {}
            cells[0] = wrap(cells[0], ATTENTIONS[o["attention"]](H), values_size, **options)
        self.stack = [
            Recurrent(c, return_sequences=True, return_state=True, name=f"recurrent_{i}")
            for i, c in enumerate(cells)
        ]
        for i, layer in enumerate(self.stack):
            width = H + self.context_size if i else o["embedding"] + every_step
            layer.build((None, None, width))
        if o["conditioning"] == "first_input":
            self.first = keras.layers.Dense(o["embedding"], name="first_input")
            self.first.build((None, summary_size))
        else:
            self._build_bridge(summary_size)
        self.build_readout()

    def _build_bridge(self, summary_size):
        sizes = [size for layer in self.stack for size in tree.flatten(layer.cell.state_size)]
        self.bridge = [
            keras.layers.Dense(size, activation="tanh", name=f"bridge_{i}")
            for i, size in enumerate(sizes)
        ]
        for layer in self.bridge:
            layer.build((None, summary_size))

    # --- graph ---

    def memory(self, encoded):
        """What every step looks at: a `Memory`, or the summary [B, C]."""
        if not self.attends:
            return encoded.summary
        with AutocastScope(self.compute_dtype):
            return self.stack[0].cell.attention.memory(encoded.values, encoded.mask)

    def start(self, encoded):
        """The state before the first step, a list for each layer: tanh(W summary), or what
        reading the summary as first input leaves."""
        if self.options["conditioning"] == "first_input":
            with AutocastScope(self.compute_dtype):
                x, batch = self.first(encoded.summary), ops.shape(encoded.summary)[0]
                zeros = [layer.cell.get_initial_state(batch) for layer in self.stack]
                return self._advanced(x, zeros, None, None)[1]
        found = iter([layer(encoded.summary) for layer in self.bridge])
        return [[next(found) for _ in tree.flatten(layer.cell.state_size)] for layer in self.stack]

    def call(self, ids, encoded, training=None, return_attention=False):
        """ids int32 [B, T] (the target, moved right), `Encoded` -> logits float32 [B, T, V], and
        with `return_attention` (logits, `AttentionTrace`)."""
        encoded = Encoded(*encoded)  # a functional model makes a list of it
        memory, states = self.memory(encoded), self.start(encoded)
        context = None
        if self.options["conditioning"] == "every_step":
            context = ops.repeat(memory[:, None], ops.shape(ids)[1], axis=1)

        def advance(i, x):
            constants = memory if self.attends and i == 0 else None
            outputs = self.stack[i](x, None, states[i], constants, training=training)
            return outputs[0]

        embedded = self.dropout(self.embedding(ids), training=training)
        h, context, looked = self._through(embedded, context, advance, training)
        logits = self.logits(h, context, embedded, training)
        return (logits, looked) if return_attention else logits

    def step(self, ids, state, memory):
        """ids int32 [B], state, memory -> (logits [B, V], state, weights [B, S] or None)."""
        context = memory if self.options["conditioning"] == "every_step" else None
        with AutocastScope(self.compute_dtype):  # `call` does it for a layer, not for a step
            embedded = self.embedding(ids)
            (h, context, looked), after = self._advanced(embedded, state, memory, context)
            logits = self.logits(h, context, embedded, False)
        return logits, after, None if looked is None else looked.weights

    def _advanced(self, embedded, state, memory, context):
        """One step of every layer: what `_through` gives, and the states after it."""
        after = []

        def advance(i, x):
            cell = self.stack[i].cell
            own = tree.pack_sequence_as(cell.state_size, state[i])
            constants = (memory,) if self.attends and i == 0 else ()
            output, new = cell.step(cell.project(x, training=False), own, matmul, *constants)
            after.append(tree.flatten(new))
            return output

        return self._through(embedded, context, advance, False), after

    def _through(self, embedded, context, advance, training):
        """Embedded ids [..., E] -> (h [..., H] of the top, context [..., D] or None,
        `AttentionTrace` or None).

        `advance(i, x)` runs layer i over x: its outputs.
        """
        h = looked = None
        for i in range(len(self.stack)):
            x = embedded if h is None else self.dropout(h, training=training)
            x = x if context is None else ops.concatenate([x, context], axis=-1)
            output = advance(i, x)
            if self.attends and i == 0:
                output, context, *looked = output
                looked = AttentionTrace(*(ops.cast(weights, "float32") for weights in looked))
            h = output if h is None else h + output
        return h, context, looked

    # --- config ---

    def get_config(self):
        return {**super().get_config(), **self.options}
