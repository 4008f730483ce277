"""LSTM with layer normalisation (Ba, Kiros and Hinton 2016, "Layer normalization")."""

import keras
from keras import ops

from kerasrnn.cells.lstm import LSTM


def layer_norm(blocks, gain, shift, epsilon):
    """LN(a; α, β) = α (a - mean) / √(variance + ε) + β over all blocks of a, as a list of blocks.

    Args:
        blocks: a, a list of tensors [..., H].
        gain, shift: α and β, over all blocks.
        epsilon: ε.
    """
    dtype = keras.backend.standardize_dtype(blocks[0].dtype)
    if dtype in ("float16", "bfloat16"):  # ε is too small for the precision of float16
        blocks = [ops.cast(a, "float32") for a in blocks]
    mean = sum(ops.mean(a, axis=-1, keepdims=True) for a in blocks) / len(blocks)
    centred = [a - mean for a in blocks]
    squares = [ops.mean(ops.square(a), axis=-1, keepdims=True) for a in centred]
    scale = ops.rsqrt(sum(squares) / len(blocks) + epsilon)
    gains, shifts = ops.split(gain, len(blocks)), ops.split(shift, len(blocks))
    parts = zip(centred, gains, shifts, strict=True)
    return [α * ops.cast(a * scale, dtype) + β for a, α, β in parts]


@keras.saving.register_keras_serializable(package="kerasrnn")
class LayerNormLSTM(LSTM):
    """LSTM with layer normalisation of its sums and of its cell.

    (i, f, g, o) = LN(U h; α_1, β_1) + LN(W x; α_2, β_2) + b
    c(t) = σ(f) c(t-1) + σ(i) tanh(g)
    h(t) = σ(o) tanh(LN(c(t); α_3, β_3))

    Ba et al. 2016, equations 20 to 22; LN over all four blocks together. Weights as in LSTM, and
    gain_h, shift_h (α_1, β_1), gain_x, shift_x (α_2, β_2) [4H], gain_c, shift_c (α_3, β_3) [H].

    >>> LayerNormLSTM(4).state_size
    (4, 4)
    """

    def __init__(self, units, epsilon=1e-5, **kwargs):
        super().__init__(units, **kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        super().build(input_shape)
        sizes = {"h": 4 * self.units, "x": 4 * self.units, "c": self.units}
        for name, size in sizes.items():
            gain = self.add_weight((size,), name=f"gain_{name}", initializer="ones")
            shift = self.add_weight((size,), name=f"shift_{name}", initializer="zeros")
            setattr(self, f"gain_{name}", gain)
            setattr(self, f"shift_{name}", shift)

    def project(self, x, training=None):
        z = layer_norm(self.blocks_of(x), self.gain_x, self.shift_x, self.epsilon)
        if self.bias is None:
            return tuple(z)
        biases = ops.split(self.bias, 4)
        return tuple(block + b for block, b in zip(z, biases, strict=True))

    def step(self, z, state, linear):
        (h, c), ε, σ = state, self.epsilon, self.recurrent_activation
        y = layer_norm(linear(h, self.recurrent_kernel, blocks=4), self.gain_h, self.shift_h, ε)
        i, f, g, o = (z_k + y_k for z_k, y_k in zip(z, y, strict=True))
        c = σ(f) * c + σ(i) * self.activation(g)
        (n,) = layer_norm([c], self.gain_c, self.shift_c, ε)
        h = σ(o) * self.activation(n)
        return h, (h, c)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
