"""The Jordan network (Jordan 1986, "Serial order: a parallel distributed processing approach")."""

import keras

from kerasrnn.cells.base import Gated


@keras.saving.register_keras_serializable(package="kerasrnn")
class Jordan(Gated):
    """A network that reads its last output at every step; state and output are y(t).

    h(t) = tanh(W x(t) + U y(t-1) + b)
    y(t) = σ(V h(t) + c)

    Jordan 1986. kernel W [D, H], recurrent_kernel U [Y, H], bias b [H], output_kernel V [H, Y],
    output_bias c [Y].

    Args:
        units: H, the hidden units.
        outputs: Y, the size of the output, which the next step reads; by default H.
        activation: of the hidden layer.
        output_activation: of the output.

    >>> Jordan(4, outputs=2).state_size
    2
    """

    def __init__(
        self, units, outputs=None, activation="tanh", output_activation="sigmoid", **kwargs
    ):
        super().__init__(units, **kwargs)
        self.outputs = units if outputs is None else outputs
        self.activation = keras.activations.get(activation)
        self.output_activation = keras.activations.get(output_activation)
        self.state_size = self.output_size = self.outputs

    def build(self, input_shape):
        H, Y = self.units, self.outputs
        self.kernel = self.add_weight(
            (input_shape[-1], H), name="kernel", initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            (Y, H), name="recurrent_kernel", initializer=self.recurrent_initializer
        )
        self.output_kernel = self.add_weight(
            (H, Y), name="output_kernel", initializer=self.kernel_initializer
        )
        self.bias = self.add_bias() if self.use_bias else None
        self.output_bias = (
            self.add_weight((Y,), name="output_bias", initializer=self.bias_initializer)
            if self.use_bias
            else None
        )

    def step(self, z, y, linear):
        h = self.activation(z + linear(y, self.recurrent_kernel))
        y = linear(h, self.output_kernel)
        y = self.output_activation(y if self.output_bias is None else y + self.output_bias)
        return y, y

    def get_config(self):
        config = {
            "outputs": self.outputs,
            "activation": keras.activations.serialize(self.activation),
            "output_activation": keras.activations.serialize(self.output_activation),
        }
        return {**super().get_config(), **config}
