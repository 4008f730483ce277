"""MUT1, MUT2 and MUT3, three gated units found by search.

Jozefowicz et al. 2015, "An empirical exploration of recurrent network architectures". H units.
MUT1 and MUT2 add x itself to sums over units, so their inputs must have H features.
"""

import keras
from keras import ops

from kerasrnn.cells.base import Gated


class Mutation(Gated):
    """The base class of the three: h(t) = z g + (1 - z) h(t-1).

    The bias has blocks z, r, g. So has recurrent_kernel, except that MUT1's has no block z.

    Raises:
        ValueError: at `build`, when x is added to sums and does not have H features.
    """

    adds_input = True
    kernel_blocks = 0
    recurrent_blocks = 3

    def build(self, input_shape):
        D, H = input_shape[-1], self.units
        if self.adds_input and D != H:
            raise ValueError(
                f"{type(self).__name__}: expected inputs with {H} features, as many as units, "
                f"since its equations add x to them, received {D}; put Dense({H}) before it."
            )
        self.kernel = self.add_weight(
            (D, self.kernel_blocks * H), name="kernel", initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            (H, self.recurrent_blocks * H),
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
        )
        self.bias = self.add_bias() if self.use_bias else None

    blocks = 3

    def biased(self, *parts):
        """The parts z, r, g, each [..., H], with their biases added."""
        if self.bias is None:
            return parts
        biases = ops.split(self.bias, 3)
        return tuple(part + b for part, b in zip(parts, biases, strict=True))

    def blocks_of(self, x):
        kernels = ops.split(self.kernel, self.kernel_blocks, axis=-1)
        return tuple(ops.matmul(x, kernel) for kernel in kernels)


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT1(Mutation):
    """z = σ(W_z x + b_z)
    r = σ(W_r x + U_r h + b_r)
    h(t) = z tanh(U_g (r h) + tanh(x) + b_g) + (1 - z) h

    Jozefowicz et al. 2015. kernel [H, 2H] in blocks z, r; recurrent_kernel [H, 2H] in blocks
    r, g; bias [3H].

    >>> MUT1(4).state_size
    4
    """

    kernel_blocks, recurrent_blocks = 2, 2

    def project(self, x, training=None):
        z, r = self.blocks_of(x)
        return self.biased(z, r, ops.tanh(x))

    def step(self, z, h, linear):
        H, U = self.units, self.recurrent_kernel
        z, r, g = z
        r = ops.sigmoid(r + linear(h, U, (0, H)))
        g = ops.tanh(g + linear(r * h, U, (H, 2 * H)))
        z = ops.sigmoid(z)
        h = z * g + (1 - z) * h
        return h, h


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT2(Mutation):
    """z = σ(W_z x + U_z h + b_z)
    r = σ(x + U_r h + b_r)
    h(t) = z tanh(U_g (r h) + W_g x + b_g) + (1 - z) h

    Jozefowicz et al. 2015. kernel [H, 2H] in blocks z, g; recurrent_kernel [H, 3H] and bias
    [3H] in blocks z, r, g.

    >>> MUT2(4).state_size
    4
    """

    kernel_blocks = 2

    def project(self, x, training=None):
        z, g = self.blocks_of(x)
        return self.biased(z, x, g)

    def step(self, z, h, linear):
        H, U = self.units, self.recurrent_kernel
        z, r, g = z
        h_z, h_r = linear(h, U, (0, 2 * H), blocks=2)
        z, r = ops.sigmoid(z + h_z), ops.sigmoid(r + h_r)
        g = ops.tanh(g + linear(r * h, U, (2 * H, 3 * H)))
        h = z * g + (1 - z) * h
        return h, h


@keras.saving.register_keras_serializable(package="kerasrnn")
class MUT3(Mutation):
    """z = σ(W_z x + U_z tanh(h) + b_z)
    r = σ(W_r x + U_r h + b_r)
    h(t) = z tanh(U_g (r h) + W_g x + b_g) + (1 - z) h

    Jozefowicz et al. 2015. kernel [D, 3H], recurrent_kernel [H, 3H] and bias [3H] in blocks z,
    r, g.

    >>> MUT3(4).state_size
    4
    """

    adds_input, kernel_blocks = False, 3

    def project(self, x, training=None):
        return self.biased(*self.blocks_of(x))

    def step(self, z, h, linear):
        H, U = self.units, self.recurrent_kernel
        z, r, g = z
        z = ops.sigmoid(z + linear(ops.tanh(h), U, (0, H)))
        r = ops.sigmoid(r + linear(h, U, (H, 2 * H)))
        g = ops.tanh(g + linear(r * h, U, (2 * H, 3 * H)))
        h = z * g + (1 - z) * h
        return h, h
