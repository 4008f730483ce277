"""Attention: a score for every source position, a masked softmax, a weighted sum.

B batch, S source time, Q query, A keys, D values. The cells that use it are in
`kerasrnn.attention.cells`.
"""

from typing import NamedTuple

import keras
from keras import ops

from kerasrnn.cells.base import matmul

LOW = -1e9  # the score of a padded position; -inf would give NaN where a whole row is padded


class Memory(NamedTuple):
    """The source positions, projected once for all steps.

    Attributes:
        keys: [B, S, A].
        values: [B, S, D].
        mask: bool [B, S], True at real positions, False at padding.
    """

    keys: object
    values: object
    mask: object


def masked_softmax(scores, mask):
    """Weights [B, S] that sum to 1 over the real positions and are 0 at padding.

    A row without a real position gets zeros. The softmax is computed in float32 or better; the
    result has the dtype of the scores.

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
    """The base class of attention: `memory` makes the keys, `read` looks a query up in them.

    A subclass defines `project(values)`, which gives the keys, and `score(query, keys, linear)`.
    `linear` is the product of a step, see `kerasrnn.cells.Cell`.

    >>> attention = Additive(5)
    >>> attention.build((None, 4), (None, None, 6))
    >>> memory = attention.memory(ops.ones((2, 3, 6)), ops.ones((2, 3), dtype="bool"))
    >>> context, weights = attention.read(ops.ones((2, 4)), memory)
    >>> context.shape, weights.shape
    (TensorShape([2, 6]), TensorShape([2, 3]))
    """

    def build(self, query_shape, values_shape):
        """Make the weights, for shapes query [..., Q] and values [..., D]."""

    def memory(self, values, mask):
        """The `Memory` of values [B, S, D] with a mask, bool [B, S].

        Raises:
            ValueError: when the attention has weights and is not built.
        """
        try:
            keys = self.project(values)
        except AttributeError as error:  # `project` found no weight
            if self.built:
                raise
            raise ValueError(
                f"{type(self).__name__}.memory: expected a built attention, received one without "
                "weights; call build((None, None, features)) of the layer around the cell first."
            ) from error
        return Memory(keys, ops.cast(values, self.compute_dtype), mask)

    def project(self, values):
        """The keys [B, S, A] of values [B, S, D]; by default the values themselves."""
        return ops.cast(values, self.compute_dtype)

    def score(self, query, keys, linear):
        """The scores [B, S] of a query [B, Q] for keys [B, S, A]."""
        raise NotImplementedError

    def weigh(self, query, memory, linear=matmul):
        """The attention weights [B, S] of a query [B, Q]."""
        return masked_softmax(self.score(query, memory.keys, linear), memory.mask)

    def context(self, query, weights, values, linear=matmul):
        """The context [B, D]: the sum of values [B, S, D] weighted by weights [B, S]."""
        return ops.squeeze(ops.matmul(ops.expand_dims(weights, 1), values), 1)

    def read(self, query, memory, linear=matmul):
        """Look a query [B, Q] up in a memory: (context [B, D], weights [B, S])."""
        weights = self.weigh(query, memory, linear)
        return self.context(query, weights, memory.values, linear), weights


@keras.saving.register_keras_serializable(package="kerasrnn")
class Additive(Attention):
    """e_s = vᵀ tanh(W q + U m_s) (Bahdanau et al. 2014, appendix A.1.2).

    query_kernel W [Q, A], key_kernel U [D, A], energy v [A].

    Args:
        units: A, the width of the keys.
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
    """Glorot's initializer of a matrix [A, 1], for a weight that is kept as a vector [A]."""

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


@keras.saving.register_keras_serializable(package="kerasrnn")
class GatedAttention(Attention):
    """The context scaled by a gate: β c, β = σ(q W_β + b_β) (Xu et al. 2015, section 4.2.1).

    gate_kernel W_β [Q, 1], gate_bias b_β [1].

    Args:
        attention: the `Attention` inside, which makes keys, scores and context.
    """

    def __init__(self, attention, **kwargs):
        super().__init__(**kwargs)
        self.attention = attention

    def build(self, query_shape, values_shape):
        if not self.attention.built:
            self.attention.build(query_shape, values_shape)
            self.attention.built = True
        self.gate_kernel = self.add_weight((query_shape[-1], 1), name="gate_kernel")
        self.gate_bias = self.add_weight((1,), name="gate_bias", initializer="zeros")

    def project(self, values):
        return self.attention.project(values)

    def score(self, query, keys, linear):
        return self.attention.score(query, keys, linear)

    def context(self, query, weights, values, linear):
        β = ops.sigmoid(linear(query, self.gate_kernel) + self.gate_bias)
        return β * self.attention.context(query, weights, values, linear)

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        return {**super().get_config(), "attention": attention}

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})


# name -> function of the number of units that makes the attention
ATTENTIONS = {
    "additive": lambda units: Additive(units),
    "dot": lambda units: Dot(),
    "scaled_dot": lambda units: ScaledDot(),
    "bilinear": lambda units: Bilinear(),
}
