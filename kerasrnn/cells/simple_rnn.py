"""The simple recurrent network (Elman 1990, "Finding structure in time")."""

import keras

from kerasrnn.cells.base import Gated


@keras.saving.register_keras_serializable(package="kerasrnn")
class SimpleRNN(Gated):
    """h(t) = tanh(W x(t) + U h(t-1) + b); the output is h(t).

    Elman 1990; Goodfellow, Bengio and Courville 2016, equations 10.8 and 10.9. Weights as in
    `keras.layers.SimpleRNN`: kernel W [D, H], recurrent_kernel U [H, H], bias b [H].

    >>> cell = SimpleRNN(4)
    >>> cell.state_size, cell.output_size
    (4, 4)
    """

    def __init__(self, units, activation="tanh", **kwargs):
        super().__init__(units, **kwargs)
        self.activation = keras.activations.get(activation)

    def step(self, z, h, linear):
        h = self.activation(z + linear(h, self.recurrent_kernel))
        return h, h

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
        }
