"""Cells that wrap a cell: dropout, zoneout, residual connections, layer normalisation.

B batch, T time, D input, H units. All random numbers are drawn in `project`, once per sequence,
because a step has to be a pure function.
"""

import keras
from keras import ops, tree

from kerasrnn.cells.base import Cell
from kerasrnn.cells.layer_norm import layer_norm
from kerasrnn.compat.keras import AutocastScope


class Wrapper(Cell):
    """A cell around another cell, with the sizes and states of the cell inside.

    Raises:
        ValueError: if `cell` is not a `Cell`.
    """

    def __init__(self, cell, **kwargs):
        if not isinstance(cell, Cell):
            raise ValueError(
                f"{type(self).__name__}(cell): expected a kerasrnn.cells.Cell, received {cell!r}; "
                "wrap a cell, then run it with Recurrent."
            )
        super().__init__(**kwargs)
        self.cell = cell
        self.state_size, self.output_size = cell.state_size, cell.output_size
        self.starts_at_zero = cell.starts_at_zero

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build(input_shape)
            self.cell.built = True

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def constant_names(self):
        return self.cell.constant_names()

    def pack_constants(self, constants):
        return self.cell.pack_constants(constants)

    def project(self, x, training=None):
        return self.cell.project(x, training=training)

    def with_input(self, z, add):
        return self.cell.with_input(z, add)

    def get_config(self):
        return {**super().get_config(), "cell": keras.saving.serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


class Paired(Wrapper):
    """A wrapper whose z is a pair: z of the cell inside, and data of the wrapper."""

    def with_input(self, z, add):
        z, wrapper_data = z
        return self.cell.with_input(z, add), wrapper_data


def checked_rate(name, rate):
    """The rate as a float (ValueError when it is not in [0, 1)); `name` is the argument's."""
    if not 0 <= rate < 1:
        raise ValueError(
            f"{name}: expected a probability in [0, 1), received {rate!r}; 0 switches it off."
        )
    return float(rate)


def dropped(x, kept, rate):
    """x / (1 - rate) where `kept` is True, 0 elsewhere; x itself where `kept` is None."""
    return x if kept is None else ops.where(kept, x / (1 - rate), ops.zeros_like(x))


@keras.saving.register_keras_serializable(package="kerasrnn")
class Dropout(Paired):
    """Dropout with the same masks at every step of a sequence (Gal and Ghahramani 2016).

    x'(t) = m_x x(t) / (1 - rate), and in every product of the state with a weight
    h'(t) = m_h h(t) / (1 - recurrent_rate), with one mask for all gates. Values are dropped in
    training only. In a `keras.layers.RNN`, which projects step by step, every step has new masks.

    Args:
        cell: the cell inside.
        rate: probability that a feature of the input is dropped.
        recurrent_rate: probability that a unit of the state is dropped.
        seed: an integer, which makes the masks repeatable.

    >>> from kerasrnn.cells import GRU
    >>> Dropout(GRU(4), rate=0.2, recurrent_rate=0.3).state_size
    4
    """

    def __init__(self, cell, rate=0.0, recurrent_rate=0.0, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        self.rate = checked_rate("rate", rate)
        self.recurrent_rate = checked_rate("recurrent_rate", recurrent_rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def project(self, x, training=None):
        shape = ops.shape(x)
        lead = (1,) if len(shape) == 3 else ()  # time first: one mask for all steps
        batch = shape[-2]
        if training and self.rate:
            x = dropped(x, self._mask((*lead, batch, shape[-1]), self.rate), self.rate)
        kept = None
        if training and self.recurrent_rate:
            size = tree.flatten(self.state_size)[0]
            kept = self._mask((*lead, batch, size), self.recurrent_rate)
        return self.cell.project(x, training=training), kept

    def _mask(self, shape, rate):
        """True where a value is kept."""
        return keras.random.uniform(shape, seed=self.seed_generator) >= rate

    def step(self, z, state, linear, *constants):
        z, kept = z

        def product(h, weight, columns=None, blocks=1):
            # Only the state h is dropped, not the gates that some cells keep in their state too.
            mask = kept if kept is not None and h.shape[-1] == kept.shape[-1] else None
            return linear(dropped(h, mask, self.recurrent_rate), weight, columns, blocks)

        return self.cell.step(z, state, product, *constants)

    def get_config(self):
        config = {"rate": self.rate, "recurrent_rate": self.recurrent_rate, "seed": self.seed}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Zoneout(Paired):
    """Zoneout: each unit of a state keeps its value with probability `rate` (Krueger et al. 2017).

    s(t) = d(t) s(t-1) + (1 - d(t)) s̃(t), where d(t) is drawn at every step for every state. When
    not training, d is its expectation, the rate. An output that is a state changes with the state.

    Args:
        cell: the cell inside.
        rate: one probability, or a tuple with one for each state of the cell.
        seed: an integer, which makes the draws repeatable.

    >>> from kerasrnn.cells import LSTM
    >>> Zoneout(LSTM(4), rate=(0.05, 0.5)).state_size
    (4, 4)
    """

    def __init__(self, cell, rate=0.1, seed=None, **kwargs):
        super().__init__(cell, **kwargs)
        sizes = tree.flatten(cell.state_size)
        rates = tuple(rate) if isinstance(rate, (list, tuple)) else (rate,) * len(sizes)
        if len(rates) != len(sizes):
            raise ValueError(
                f"rate: expected one probability or {len(sizes)}, one for each state, received "
                f"{rate!r}; state_size is {cell.state_size}."
            )
        self.rate = tuple(checked_rate("rate", r) for r in rates)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def project(self, x, training=None):
        z = self.cell.project(x, training=training)
        if not training:
            return z, None
        lead, sizes = ops.shape(x)[:-1], tree.flatten(self.state_size)
        draws = [keras.random.uniform((*lead, size), seed=self.seed_generator) for size in sizes]
        return z, tuple(draw < rate for draw, rate in zip(draws, self.rate, strict=True))

    def step(self, z, state, linear, *constants):
        z, keep = z
        output, new_state = self.cell.step(z, state, linear, *constants)
        old, new = tree.flatten(state), tree.flatten(new_state)
        if keep is None:
            mixed = [r * s + (1 - r) * n for r, s, n in zip(self.rate, old, new, strict=True)]
        else:
            mixed = [ops.where(k, s, n) for k, s, n in zip(keep, old, new, strict=True)]
        # An output that is one of the new states (the same tensor) becomes the mixed state.
        outputs = [
            next((m for m, n in zip(mixed, new, strict=True) if n is o), o)
            for o in tree.flatten(output)
        ]
        return tree.pack_sequence_as(output, outputs), tree.pack_sequence_as(state, mixed)

    def get_config(self):
        return {**super().get_config(), "rate": list(self.rate), "seed": self.seed}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Residual(Paired):
    """A residual connection: y(t) = x(t) + f(x(t), h(t-1)) (Wu et al. 2016, GNMT).

    >>> from kerasrnn.cells import GRU
    >>> Residual(GRU(3)).output_size
    3
    """

    def build(self, input_shape):
        if input_shape[-1] != self.output_size:
            raise ValueError(
                f"Residual: expected inputs with {self.output_size} features, as many as the "
                f"cell's output has, received {input_shape[-1]}; project them first."
            )
        super().build(input_shape)

    def project(self, x, training=None):
        return self.cell.project(x, training=training), x

    def step(self, z, state, linear, *constants):
        z, x = z
        output, state = self.cell.step(z, state, linear, *constants)
        return output + x, state


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNorm(Wrapper):
    """Layer normalisation of every product in the step: LN(h U; α, β) in place of h U.

    LN(a; α, β) = α (a - mean) / √(variance + ε) + β, over all columns of the product, the
    blocks of all its gates together (Ba, Kiros and Hinton 2016, the term of h in equation 20).
    The state and the product of the input are not normalised; `LayerNormLSTM` normalises the cell
    and that product too. The wrapper adds weights gain_k and shift_k (α, β) for product k.

    Args:
        cell: the cell inside. Its step must not need constants.
        epsilon: ε.

    >>> from kerasrnn.cells import GRU
    >>> LayerNorm(GRU(4)).state_size
    4
    """

    def __init__(self, cell, epsilon=1e-5, **kwargs):
        super().__init__(cell, **kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        super().build(input_shape)
        widths = list(enumerate(self._widths(input_shape)))
        self.gains = [self.add_weight((n,), "ones", name=f"gain_{k}") for k, n in widths]
        self.shifts = [self.add_weight((n,), "zeros", name=f"shift_{k}") for k, n in widths]

    def _widths(self, input_shape):
        """The number of columns of every product, from a step on zeros.

        Raises:
            ValueError: when the step needs constants, or has no product.
        """
        widths, inside = [], type(self.cell).__name__
        if self.constant_names():
            raise ValueError(
                f"LayerNorm(cell): expected a cell whose step needs no constants, received "
                f"{inside}, which needs {self.constant_names()}; wrap the cell inside it."
            )

        def linear(h, weight, columns=None, blocks=1):
            width = weight.shape[1] if columns is None else columns[1] - columns[0]
            widths.append(width)
            y = [ops.zeros((1, width // blocks), dtype=h.dtype) for _ in range(blocks)]
            return y[0] if blocks == 1 else y

        with AutocastScope(self.compute_dtype):
            x = ops.zeros((1, *input_shape[1:]), dtype=self.compute_dtype)
            self.cell.step(self.cell.project(x), self.cell.initial_state(1), linear)
        if not widths:
            raise ValueError(
                f"LayerNorm(cell): expected a cell with a product in its step, received {inside}, "
                "which has none; use it as it is."
            )
        return widths

    def step(self, z, state, linear, *constants):
        # Products come in the same order at every step, which is the order of the weights.
        weights = iter(zip(self.gains, self.shifts, strict=True))

        def normalised_linear(h, weight, columns=None, blocks=1):
            y = linear(h, weight, columns, blocks)
            y = layer_norm([y] if blocks == 1 else y, *next(weights), self.epsilon)
            return y[0] if blocks == 1 else y

        return self.cell.step(z, state, normalised_linear, *constants)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
