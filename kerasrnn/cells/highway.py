"""The recurrent highway network (Zilly et al. 2017, "Recurrent highway networks")."""

import keras
from keras import ops

from kerasrnn.cells.base import Gated


@keras.saving.register_keras_serializable(package="kerasrnn")
class RecurrentHighway(Gated):
    """L highway layers at every time step; state and output are s_L(t), and s_0(t) = s_L(t-1).

    g_l = tanh(W_g x [l = 1] + U_g,l s_{l-1} + b_g,l)
    t_l = σ(W_t x [l = 1] + U_t,l s_{l-1} + b_t,l)
    s_l = t_l g_l + (1 - t_l) s_{l-1}

    Zilly et al. 2017, with the carry gate c = 1 - t of the paper's experiments. Here [l = 1] is 1
    in the first layer and 0 in the others. kernel [D, 2H] in blocks g, t; recurrent_kernel_1 …
    recurrent_kernel_L [H, 2H]; bias_1 … bias_L [2H].

    Args:
        units: H.
        depth: L.

    Raises:
        ValueError: if `units` or `depth` is not a positive integer.

    >>> RecurrentHighway(4, depth=3).state_size
    4
    """

    blocks = 2

    def __init__(self, units, depth=2, **kwargs):
        if not isinstance(depth, int) or depth < 1:
            raise ValueError(
                f"depth: expected a positive integer, received {depth!r}; 1 is the smallest."
            )
        super().__init__(units, **kwargs)
        self.depth = depth

    def build(self, input_shape):
        width, layers = 2 * self.units, range(1, self.depth + 1)
        self.kernel = self.add_weight(
            (input_shape[-1], width), name="kernel", initializer=self.kernel_initializer
        )
        self.recurrent_kernels = [
            self.add_weight(
                (self.units, width),
                name=f"recurrent_kernel_{layer}",
                initializer=self.recurrent_initializer,
            )
            for layer in layers
        ]
        self.biases = [
            self.add_weight((width,), name=f"bias_{layer}", initializer=self.bias_initializer)
            for layer in layers
            if self.use_bias
        ]

    def project(self, x, training=None):
        z = self.blocks_of(x)
        if not self.use_bias:
            return z
        biases = ops.split(self.biases[0], 2)
        return tuple(block + b for block, b in zip(z, biases, strict=True))

    def step(self, z, s, linear):
        for layer, U in enumerate(self.recurrent_kernels):
            g, t = linear(s, U, blocks=2)
            if layer == 0:
                g, t = z[0] + g, z[1] + t
            elif self.use_bias:
                b_g, b_t = ops.split(self.biases[layer], 2)
                g, t = g + b_g, t + b_t
            t = ops.sigmoid(t)
            s = t * ops.tanh(g) + (1 - t) * s
        return s, s

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}
