"""The gated recurrent unit (Cho et al. 2014), in both conventions of the reset gate."""

import keras
from keras import ops

from kerasrnn.cells.base import Gated


@keras.saving.register_keras_serializable(package="kerasrnn")
class GRU(Gated):
    """The gated recurrent unit; state and output are h(t).

    z = σ(W_z x + U_z h + b_z)        r = σ(W_r x + U_r h + b_r)
    reset_after=True:   g = tanh(W_g x + b_g + r (U_g h + b'_g))
    reset_after=False:  g = tanh(W_g x + b_g + U_g (r h))
    h(t) = z h(t-1) + (1 - z) g         with update_replaces=True: (1 - z) h(t-1) + z g

    In Cho et al. 2014, equations 5 to 8, the reset comes before the product and z keeps the state.
    In Chung et al. 2014 z replaces it. In cuDNN and Keras the reset comes after the product.
    Weights and gate order (z, r, g) are those of `keras.layers.GRU`: kernel [D, 3H],
    recurrent_kernel [H, 3H], bias [2, 3H] (of W and of U) with reset_after, [3H] without.

    Args:
        units: H.
        activation: of the new value g.
        recurrent_activation: σ, of the two gates.
        reset_after: whether r multiplies U_g h, and not h.
        update_replaces: whether z is the share of g, and not of h(t-1).

    >>> cell = GRU(4, reset_after=False)
    >>> cell.state_size, cell.output_size
    (4, 4)
    """

    blocks = 3

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        reset_after=True,
        update_replaces=False,
        **kwargs,
    ):
        super().__init__(units, **kwargs)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.reset_after = reset_after
        self.update_replaces = update_replaces
        # A subclass may have another step, so it does not count.
        is_cudnn = type(self) is GRU and reset_after and not update_replaces
        is_cudnn = is_cudnn and self.has_cudnn_gates()
        self.cudnn = "gru" if is_cudnn else None

    def add_bias(self):
        shape = (2, 3 * self.units) if self.reset_after else (3 * self.units,)
        return self.add_weight(shape, name="bias", initializer=self.bias_initializer)

    def project(self, x, training=None):
        if self.bias is None or not self.reset_after:
            return super().project(x, training=training)
        # U's bias for the gates z and r is added here, to W's. Only b'_g waits for the step, where
        # r multiplies it.
        b, b_u = ops.split(self.bias, 2, axis=0)
        b_z, b_r, b_g = ops.split(b[0], 3)
        u_z, u_r, _ = ops.split(b_u[0], 3)
        z, r, g = self.blocks_of(x)
        return z + (b_z + u_z), r + (b_r + u_r), g + b_g

    def step(self, z, h, linear):
        H, U, σ = self.units, self.recurrent_kernel, self.recurrent_activation
        x_z, x_r, x_g = z
        if self.reset_after:
            h_z, h_r, h_g = linear(h, U, blocks=3)
            if self.bias is not None:
                h_g = h_g + self.bias[1, 2 * H :]
            r = σ(x_r + h_r)
            g = self.activation(x_g + r * h_g)
        else:
            h_z, h_r = linear(h, U, (0, 2 * H), blocks=2)
            r = σ(x_r + h_r)
            g = self.activation(x_g + linear(r * h, U, (2 * H, 3 * H)))
        update = σ(x_z + h_z)
        keep = 1 - update if self.update_replaces else update
        h = keep * h + (1 - keep) * g
        return h, h

    def get_config(self):
        config = {
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "reset_after": self.reset_after,
            "update_replaces": self.update_replaces,
        }
        return {**super().get_config(), **config}
