"""Attention: a score for every source position, a masked softmax, a weighted sum; and the cells
that look at a memory at every step.

B batch, S source time, H units, Q query, A keys, D values.
"""

from typing import NamedTuple

import keras
from keras import ops, tree

from kerasrnn.cells.base import Cell, matmul
from kerasrnn.cells.wrappers import Wrapper

LOW = -1e9  # the score of a position that is not there


class Memory(NamedTuple):
    """What is attended to, projected once for all steps.

    Attributes:
        keys: [B, S, A].
        values: [B, S, D].
        mask: bool [B, S], True where there is something.
    """

    keys: object
    values: object
    mask: object


def masked_softmax(scores, mask):
    """Weights [B, S] that sum to one over the real positions and are 0 elsewhere.

    A row without any real position gets zeros. Computed in float32 at least.

    >>> weights = masked_softmax(ops.convert_to_tensor([[1.0, 1.0, 9.0]]),
    ...                          ops.convert_to_tensor([[True, True, False]]))
    >>> weights.numpy().tolist()
    [[0.5, 0.5, 0.0]]
    """
    dtype = scores.dtype
    if keras.backend.standardize_dtype(dtype) in ("float16", "bfloat16"):
        scores = ops.cast(scores, "float32")
    weights = ops.softmax(ops.where(mask, scores, ops.cast(LOW, scores.dtype)), axis=-1)
    return ops.cast(ops.where(mask, weights, ops.cast(0, weights.dtype)), dtype)


class Attention(keras.layers.Layer):
    """A score of a query for every key; `memory` makes the keys, `read` looks them up.

    A subclass defines `project(values)`, the keys, and `score(query, keys, linear)`. `linear` is
    the product of a step, see `kerasrnn.cells.Cell`.

    >>> attention = Additive(5)
    >>> attention.build((None, 4), (None, None, 6))
    >>> memory = attention.memory(ops.ones((2, 3, 6)), ops.ones((2, 3), dtype="bool"))
    >>> context, weights = attention.read(ops.ones((2, 4)), memory)
    >>> context.shape, weights.shape
    (TensorShape([2, 6]), TensorShape([2, 3]))
    """

    def build(self, query_shape, values_shape):
        """query [..., Q], values [..., D]."""

    def memory(self, values, mask):
        """values [B, S, D], mask bool [B, S] -> `Memory`."""
        return Memory(self.project(values), ops.cast(values, self.compute_dtype), mask)

    def project(self, values):
        """values [B, S, D] -> keys [B, S, A]."""
        return ops.cast(values, self.compute_dtype)

    def score(self, query, keys, linear):
        """query [B, Q], keys [B, S, A] -> scores [B, S]."""
        raise NotImplementedError

    def read(self, query, memory, linear=matmul):
        """query [B, Q] -> (context [B, D], weights [B, S])."""
        weights = masked_softmax(self.score(query, memory.keys, linear), memory.mask)
        context = ops.matmul(ops.expand_dims(weights, 1), memory.values)
        return ops.squeeze(context, 1), weights


@keras.saving.register_keras_serializable(package="kerasrnn")
class Additive(Attention):
    """e_s = vᵀ tanh(W q + U m_s) (Bahdanau et al. 2014, appendix A.1.2).

    query_kernel W [Q, A], key_kernel U [D, A], energy v [A].

    Args:
        units: A.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, query_shape, values_shape):
        A = self.units
        self.query_kernel = self.add_weight((query_shape[-1], A), name="query_kernel")
        self.key_kernel = self.add_weight((values_shape[-1], A), name="key_kernel")
        self.energy = self.add_weight((A,), name="energy", initializer=_EnergyInitializer())

    def project(self, values):
        return ops.matmul(ops.cast(values, self.compute_dtype), self.key_kernel)

    def score(self, query, keys, linear):
        query = ops.expand_dims(linear(query, self.query_kernel), 1)
        return ops.sum(ops.tanh(query + keys) * self.energy, axis=-1)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class _EnergyInitializer(keras.initializers.Initializer):
    """Glorot's for a [A, 1] matrix that is kept as a vector."""

    def __call__(self, shape, dtype=None):
        matrix = keras.initializers.GlorotUniform()((*shape, 1), dtype=dtype)
        return ops.squeeze(matrix, -1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Dot(Attention):
    """e_s = q · m_s (Luong et al. 2015, "dot"); needs Q = D."""

    def build(self, query_shape, values_shape):
        if query_shape[-1] != values_shape[-1]:
            raise ValueError(
                f"{type(self).__name__}: expected queries as wide as the memory's values, "
                f"received {query_shape[-1]} and {values_shape[-1]}; use Bilinear, or make the "
                "sizes equal."
            )

    def score(self, query, keys, linear):
        return ops.squeeze(ops.matmul(keys, ops.expand_dims(query, -1)), -1)


@keras.saving.register_keras_serializable(package="kerasrnn")
class ScaledDot(Dot):
    """e_s = q · m_s / √Q (Vaswani et al. 2017, equation 1); needs Q = D."""

    def score(self, query, keys, linear):
        return super().score(query * query.shape[-1] ** -0.5, keys, linear)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Bilinear(Dot):
    """e_s = qᵀ W m_s (Luong et al. 2015, "general"). kernel W [D, Q], applied to the keys once."""

    def build(self, query_shape, values_shape):
        self.kernel = self.add_weight((values_shape[-1], query_shape[-1]), name="kernel")

    def project(self, values):
        return ops.matmul(ops.cast(values, self.compute_dtype), self.kernel)


ATTENTIONS = {
    "additive": lambda units: Additive(units),
    "dot": lambda units: Dot(),
    "scaled_dot": lambda units: ScaledDot(),
    "bilinear": lambda units: Bilinear(),
}


class AttentionWrapper(Wrapper):
    """A cell that looks at a `Memory`, its one constant, at every step.

    The context enters the cell as a further input: its product with `context_kernel` is added
    to every sum that the cell's `project` gives, which is what concatenating it to x would do,
    and the products of x are still done for all steps at once.

    The output is (y [B, H], context [B, D], weights [B, S]).

    Args:
        cell: the cell inside.
        attention: an `Attention`.
        memory_size: D, the width of the memory's values.
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

    def constants_wanted(self):
        return ["memory"]

    def build_attention(self, query):
        """Build the attention for queries [B, query]."""
        if not self.attention.built:
            self.attention.build((None, query), (None, None, self.memory_size))
            self.attention.built = True

    def build_kernel(self, input_shape, fed):
        """The kernel of what is fed in, [B, fed]: to every sum of the cell."""
        widths = []

        def note(leaf):
            widths.append(leaf.shape[-1])
            return leaf

        x = ops.zeros((1, input_shape[-1]), dtype=self.variable_dtype)
        self.cell.with_input(self.cell.project(x, training=False), note)
        if len(set(widths)) != 1:
            raise ValueError(
                f"{type(self.cell).__name__}.project: expected sums of one width for the context "
                f"to enter, received widths {widths}; give them as leaves of equal size."
            )
        self.sums = len(widths)
        shape = (fed, self.sums * widths[0])
        self.context_kernel = self.add_weight(shape, name="context_kernel")

    def feed(self, z, fed, linear):
        """z with the share of `fed` [B, ...] in every sum."""
        shares = linear(fed, self.context_kernel, blocks=self.sums)
        shares = iter([shares] if self.sums == 1 else shares)
        return self.cell.with_input(z, lambda leaf: leaf + next(shares))

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        config = {"attention": attention, "memory_size": self.memory_size}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return super().from_config({**config, "attention": attention})


@keras.saving.register_keras_serializable(package="kerasrnn")
class BahdanauCell(AttentionWrapper):
    """Attention first: s(t) = f(x(t), c(t), s(t-1)), c(t) read with s(t-1) as query.

    Bahdanau et al. 2014, section 3.1. The query is the first tensor of the state.

    >>> from kerasrnn.cells import GRU
    >>> from kerasrnn.layers import Recurrent
    >>> cell = BahdanauCell(GRU(4), Additive(5), memory_size=6)
    >>> layer = Recurrent(cell, return_sequences=True)
    >>> layer.build((None, None, 3))
    >>> memory = cell.attention.memory(ops.ones((2, 7, 6)), ops.ones((2, 7), dtype="bool"))
    >>> [tuple(y.shape) for y in layer(ops.ones((2, 5, 3)), constants=memory)]
    [(2, 5, 4), (2, 5, 6), (2, 5, 7)]
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.build_attention(tree.flatten(self.state_size)[0])
        self.build_kernel(input_shape, self.memory_size)

    def step(self, z, state, linear, memory):
        query = tree.flatten(state)[0]
        context, weights = self.attention.read(query, memory, linear)
        y, state = self.cell.step(self.feed(z, context, linear), state, linear)
        return (y, context, weights), state


@keras.saving.register_keras_serializable(package="kerasrnn")
class LuongCell(AttentionWrapper):
    """Attention last: c(t) is read with the cell's output y(t) as query, and
    a(t) = tanh(W_c [y(t); c(t)]) is what goes on.

    Luong et al. 2015, sections 3 and 3.3. With `input_feeding` a(t-1) enters the next step as a
    further input; the state is then (state of the cell, a), else that of the cell. The output
    is (a [B, H], context [B, D], weights [B, S]). output_kernel W_c [H + D, H].

    Args:
        cell, attention, memory_size: as in `AttentionWrapper`.
        input_feeding: whether a(t-1) is fed back.
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
        own = self.cell.initial_state(batch_size)
        return (own, Cell.initial_state(self, batch_size)[1]) if self.input_feeding else own

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
