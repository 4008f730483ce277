"""Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

import keras
from keras import ops

from kerasrnn.cells.base import Gated


class ForgetBias:
    """A bias initializer: 1 for the forget gate, another initializer for the other gates.

    Args:
        initializer: that of the other gates.
        units: H, the size of a block.
        block: the index of the forget gate's block.
    """

    def __init__(self, initializer, units, block=1):
        self.initializer, self.units, self.block = initializer, units, block

    def __call__(self, shape, dtype=None, **kwargs):
        blocks = [self.initializer((self.units,), dtype=dtype)] * (shape[0] // self.units)
        blocks[self.block] = ops.ones((self.units,), dtype=dtype)
        return ops.concatenate(blocks)


@keras.saving.register_keras_serializable(package="kerasrnn")
class LSTM(Gated):
    """Long short-term memory with a forget gate; the output is h(t), the state (h, c).

    i = σ(W_i x + U_i h + b_i)        f = σ(W_f x + U_f h + b_f)
    g = tanh(W_g x + U_g h + b_g)     o = σ(W_o x + U_o h + b_o)
    c(t) = f c(t-1) + i g             h(t) = o tanh(c(t))

    Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000; bias of
    the forget gate at 1: Jozefowicz et al. 2015. Weights and gate order (i, f, g, o) are those of
    `keras.layers.LSTM`: kernel [D, 4H], recurrent_kernel [H, 4H], bias [4H].

    Args:
        units: H.
        activation: of g and of c(t) in the output.
        recurrent_activation: σ, of the gates.
        unit_forget_bias: whether the bias of the forget gate starts at 1.

    >>> cell = LSTM(4)
    >>> cell.state_size, cell.output_size
    ((4, 4), 4)
    """

    blocks = 4

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        unit_forget_bias=True,
        **kwargs,
    ):
        super().__init__(units, **kwargs)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = (units, units)
        # A subclass may have another step, so it does not count.
        is_cudnn = type(self) is LSTM and self.has_cudnn_gates()
        self.cudnn = "lstm" if is_cudnn else None

    def add_bias(self):
        initializer = self.bias_initializer
        if self.unit_forget_bias:
            initializer = ForgetBias(initializer, self.units)
        return self.add_weight((4 * self.units,), name="bias", initializer=initializer)

    def step(self, z, state, linear):
        h, c = state
        y = linear(h, self.recurrent_kernel, blocks=4)
        i, f, g, o = (z_k + y_k for z_k, y_k in zip(z, y, strict=True))
        σ = self.recurrent_activation
        c = σ(f) * c + σ(i) * self.activation(g)
        h = σ(o) * self.activation(c)
        return h, (h, c)

    def get_config(self):
        config = {
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }
        return {**super().get_config(), **config}
