"""Recurrent cells with attention: they read a memory at every step.

B batch, S source time, H units, D values.
"""

import keras
from keras import ops, tree

from kerasrnn.attention.scores import Attention, Memory
from kerasrnn.cells.base import Cell
from kerasrnn.cells.wrappers import Paired, Wrapper, checked_rate, dropped


class AttentionWrapper(Wrapper):
    """A cell that reads a `Memory`, its one constant, at every step.

    The context enters the cell as a further input: its product with `context_kernel` is added to
    every sum that the cell's `project` gives. This equals concatenating the context to x, but the
    products of x are still computed for all steps at once.

    The output is (y [B, H], context [B, D], weights [B, S]).

    Args:
        cell: the cell inside.
        attention: an `Attention`.
        memory_size: D, the width of the memory's values.

    Raises:
        ValueError: if `attention` is not an `Attention`.
    """

    def __init__(self, cell, attention, memory_size, **kwargs):
        super().__init__(cell, **kwargs)
        if not isinstance(attention, Attention):
            raise ValueError(
                f"attention: expected a kerasrnn.attention.Attention, received {attention!r}; "
                "give Additive(units), Dot(), ScaledDot() or Bilinear()."
            )
        self.attention, self.memory_size = attention, memory_size
        self.output_size = (cell.output_size, memory_size, None)

    def constant_names(self):
        return ["memory"]

    def pack_constants(self, constants):
        flat = tree.flatten(constants)
        if constants and len(flat) != len(Memory._fields):
            raise ValueError(
                f"constants: expected a Memory (keys, values, mask), received {len(flat)} "
                "tensors; make one with cell.attention.memory(values, mask)."
            )
        return (Memory(*flat),) if constants else constants

    def build_attention(self, query):
        """Build the attention for queries [B, query]; an attention that is built stays as it is."""
        if not self.attention.built:
            self.attention.build((None, query), (None, None, self.memory_size))
            self.attention.built = True

    def build_kernel(self, input_shape, fed):
        """Add `context_kernel`, which maps a further input [B, fed] to every sum of the cell."""
        widths = []

        def record_width(leaf):
            widths.append(leaf.shape[-1])
            return leaf

        # One projection of zeros shows how many sums there are, and their width.
        x = ops.zeros((1, input_shape[-1]), dtype=self.variable_dtype)
        self.cell.with_input(self.cell.project(x, training=False), record_width)
        if len(set(widths)) != 1:
            raise ValueError(
                f"{type(self.cell).__name__}.project: expected sums of one width for the context "
                f"to enter, received widths {widths}; give them as leaves of equal size."
            )
        self.sums = len(widths)
        shape = (fed, self.sums * widths[0])
        self.context_kernel = self.add_weight(shape, name="context_kernel")

    def feed(self, z, fed, linear):
        """z of the cell with the product of the further input `fed` added to every sum."""
        addends = linear(fed, self.context_kernel, blocks=self.sums)
        addends = iter([addends] if self.sums == 1 else addends)
        return self.cell.with_input(z, lambda leaf: leaf + next(addends))

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        config = {"attention": attention, "memory_size": self.memory_size}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return super().from_config({**config, "attention": attention})


@keras.saving.register_keras_serializable(package="kerasrnn")
class BahdanauCell(Paired, AttentionWrapper):
    """Attention before the step: s(t) = f(x(t), c(t), s(t-1)), where s(t-1) is the query of c(t).

    Bahdanau et al. 2014, section 3.1. The query is the first tensor of the state.

    Args:
        cell, attention, memory_size: as in `AttentionWrapper`.
        dropout: the share of training steps at which the cell inside gets zeros in place of the
            context; at the other steps it gets the context divided by (1 - dropout). The output
            has the whole context at every step. The cell inside then cannot rely on earlier
            contexts, and so attends to the place of the current output.
        seed: an integer, which makes the draws repeatable.

    >>> from kerasrnn.attention.scores import Additive
    >>> from kerasrnn.cells import GRU
    >>> from kerasrnn.layers import Recurrent
    >>> cell = BahdanauCell(GRU(4), Additive(5), memory_size=6)
    >>> layer = Recurrent(cell, return_sequences=True)
    >>> layer.build((None, None, 3))
    >>> memory = cell.attention.memory(ops.ones((2, 7, 6)), ops.ones((2, 7), dtype="bool"))
    >>> [tuple(y.shape) for y in layer(ops.ones((2, 5, 3)), constants=memory)]
    [(2, 5, 4), (2, 5, 6), (2, 5, 7)]
    """

    def __init__(self, cell, attention, memory_size, dropout=0.0, seed=None, **kwargs):
        super().__init__(cell, attention, memory_size, **kwargs)
        self.dropout, self.seed = checked_rate("dropout", dropout), seed
        self.seeds = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        super().build(input_shape)
        self.build_attention(tree.flatten(self.state_size)[0])
        self.build_kernel(input_shape, self.memory_size)

    def project(self, x, training=None):
        z, kept = self.cell.project(x, training=training), None
        if training and self.dropout:
            # Drawn here, for all steps at once, because `step` has to be a pure function.
            kept = self.draw((*ops.shape(x)[:-1], 1)) >= self.dropout
        return z, kept

    def draw(self, shape):
        """Random numbers in [0, 1), float32."""
        return keras.random.uniform(shape, dtype="float32", seed=self.seeds)

    def step(self, z, state, linear, memory):
        context, weights = self.attention.read(tree.flatten(state)[0], memory, linear)
        y, state = self.advance(z, context, state, linear)
        return (y, context, weights), state

    def advance(self, z, context, state, linear):
        """The step of the cell inside with the context as a further input: (y, new state)."""
        z, kept = z
        fed = dropped(context, kept, self.dropout)
        return self.cell.step(self.feed(z, fed, linear), state, linear)

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout, "seed": self.seed}


@keras.saving.register_keras_serializable(package="kerasrnn")
class HardCell(BahdanauCell):
    """Hard attention: the context is the value at one place (Xu et al. 2015, section 4.1).

    In training the place of every step is drawn from the weights α(t). With probability 1/2, once
    for each row and sequence, the context is the expectation instead, that of soft attention; the
    paper does so to reduce the variance. When not training, the place is the likeliest one.

    The output is (y [B, H], context [B, D], weights α [B, S], place [B, S]). `place` is one-hot and
    has no gradient; it is all zeros in a row that took the expectation. REINFORCE's term needs it,
    see `kerasrnn.attention.losses.reinforce`.

    Args:
        cell, attention, memory_size: as in `AttentionWrapper`.
        drawn: whether places are drawn also when not training.
        dropout, seed: as in `BahdanauCell`.
    """

    def __init__(self, cell, attention, memory_size, drawn=False, **kwargs):
        super().__init__(cell, attention, memory_size, **kwargs)
        self.drawn = drawn
        self.output_size = (*self.output_size, None)

    def with_input(self, z, add):
        z, drawn = z
        return super().with_input(z, add), drawn

    def project(self, x, training=None):
        z = super().project(x, training=training)
        if not (training or self.drawn):
            return z, None
        lead = ops.shape(x)[:-1]
        # A number for each step and row; a coin for each row, shared by all steps (time axis 1).
        number, coin = self.draw((*lead, 1)), self.draw((*(1,) * (len(lead) - 1), lead[-1], 1))
        return z, (number, coin if training else ops.zeros_like(coin))

    def step(self, z, state, linear, memory):
        z, drawn = z
        query = tree.flatten(state)[0]
        weights = self.attention.weigh(query, memory, linear)
        place = _place(ops.stop_gradient(weights), None if drawn is None else drawn[0])
        context_weights = place
        if drawn is not None:
            takes_expectation = drawn[1] >= 0.5
            context_weights = ops.where(takes_expectation, weights, place)
            place = ops.where(takes_expectation, ops.zeros_like(place), place)
        context = self.attention.context(query, context_weights, memory.values, linear)
        y, state = self.advance(z, context, state, linear)
        return (y, context, weights, place), state

    def get_config(self):
        return {**super().get_config(), "drawn": self.drawn}


def _place(weights, number=None):
    """One place of each row, one-hot [B, S].

    Without `number` it is the likeliest place. With `number` [B, 1] in [0, 1) the place is drawn:
    the cumulative distribution is inverted at that number.
    """
    if number is None:
        index = ops.top_k(weights, 1)[1][:, 0]
    else:
        cumulative = ops.cumsum(ops.cast(weights, "float32"), axis=-1)
        passed = cumulative <= number * cumulative[:, -1:]
        index = ops.sum(ops.cast(passed, "int32"), axis=-1)
    return ops.one_hot(index, ops.shape(weights)[-1], dtype=weights.dtype)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LuongCell(AttentionWrapper):
    """Attention after the step: a(t) = tanh(W_c [y(t); c(t)]), with y(t) as the query of c(t).

    Luong et al. 2015, sections 3 and 3.3; y(t) is the output of the cell inside. The output is
    (a [B, H], context [B, D], weights [B, S]). With `input_feeding`, a(t-1) is a further input of
    the next step, and the state is (state of the cell, a). output_kernel W_c [H + D, H].

    Args:
        cell, attention, memory_size: as in `AttentionWrapper`.
        input_feeding: whether a(t-1) is a further input of step t.
    """

    def __init__(self, cell, attention, memory_size, input_feeding=True, **kwargs):
        super().__init__(cell, attention, memory_size, **kwargs)
        self.input_feeding = input_feeding
        if input_feeding:
            self.state_size = (cell.state_size, cell.output_size)

    def build(self, input_shape):
        super().build(input_shape)
        H = self.cell.output_size
        self.build_attention(H)
        if self.input_feeding:
            self.build_kernel(input_shape, H)
        self.output_kernel = self.add_weight((H + self.memory_size, H), name="output_kernel")

    def initial_state(self, batch_size):
        state = self.cell.initial_state(batch_size)
        return (state, Cell.initial_state(self, batch_size)[1]) if self.input_feeding else state

    def step(self, z, state, linear, memory):
        if self.input_feeding:
            state, a = state
            z = self.feed(z, a, linear)
        y, state = self.cell.step(z, state, linear)
        context, weights = self.attention.read(y, memory, linear)
        a = ops.tanh(linear(ops.concatenate([y, context], axis=-1), self.output_kernel))
        return (a, context, weights), ((state, a) if self.input_feeding else state)

    def get_config(self):
        return {**super().get_config(), "input_feeding": self.input_feeding}
