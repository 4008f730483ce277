"""LSTM with peepholes, and its variants in Greff et al. 2015.

The paper is "LSTM: a search space odyssey". H units. A variant changes one line of `PeepholeLSTM`;
`CoupledLSTM` has no peepholes.
"""

import keras
from keras import ops

from kerasrnn.cells.lstm import LSTM, ForgetBias


@keras.saving.register_keras_serializable(package="kerasrnn")
class PeepholeLSTM(LSTM):
    """LSTM whose gates also read the cell c; the vanilla LSTM of Greff et al.

    i = σ(W_i x + U_i h + p_i c(t-1) + b_i)     f = σ(W_f x + U_f h + p_f c(t-1) + b_f)
    g = tanh(W_g x + U_g h + b_g)               c(t) = f c(t-1) + i g
    o = σ(W_o x + U_o h + p_o c(t) + b_o)       h(t) = o tanh(c(t))

    Gers and Schmidhuber 2000, "Recurrent nets that time and count"; Greff et al. 2015, section
    2. Weights as in LSTM, and peephole_i, peephole_f and peephole_o [H].

    >>> PeepholeLSTM(4).state_size
    (4, 4)
    """

    gates = "ifgo"  # the blocks of the weights, in order

    @property
    def blocks(self):
        return len(self.gates)

    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = {
            gate: self.add_weight(
                (self.units,), name=f"peephole_{gate}", initializer=self.kernel_initializer
            )
            for gate in self.gates
            if gate != "g"
        }

    def add_bias(self):
        initializer = self.bias_initializer
        if self.unit_forget_bias and "f" in self.gates:
            initializer = ForgetBias(initializer, self.units, self.gates.index("f"))
        return self.add_weight((self.blocks * self.units,), name="bias", initializer=initializer)

    def step(self, z, state, linear):
        h, c = state
        h, c, _ = self.cell_equations(self.sums(z, h, linear), c)
        return h, (h, c)

    def sums(self, z, h, linear):
        """W x + U h + b [B, H] of every gate: {letter of the gate: sum}."""
        y = linear(h, self.recurrent_kernel, blocks=self.blocks)
        return {g: z_g + y_g for g, z_g, y_g in zip(self.gates, z, y, strict=True)}

    def cell_equations(self, a, c):
        """(h(t), c(t), gates (i, f, o)) from the sums a of every gate and from c = c(t-1)."""
        i, f = self.input_gate(a, c), self.forget_gate(a, c)
        c = f * c + i * self.input_activation(a["g"])
        o = self.gate(a, "o", c)  # it reads c(t), the other gates read c(t-1)
        return o * self.output_activation(c), c, (i, f, o)

    def gate(self, a, name, c):
        """σ(a + p c) of a gate by its letter; 1 where the cell does not have the gate."""
        if name not in self.gates:
            return 1.0
        return self.recurrent_activation(a[name] + self.peephole[name] * c)

    def input_gate(self, a, c):
        """The input gate i."""
        return self.gate(a, "i", c)

    def forget_gate(self, a, c):
        """The forget gate f."""
        return self.gate(a, "f", c)

    def input_activation(self, g):
        """The activation of g."""
        return self.activation(g)

    def output_activation(self, c):
        """The activation of c(t) in the output."""
        return self.activation(c)


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoInputGateLSTM(PeepholeLSTM):
    """Greff et al. 2015, NIG: i = 1. Weights in blocks f, g, o."""

    gates = "fgo"


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoForgetGateLSTM(PeepholeLSTM):
    """Greff et al. 2015, NFG: f = 1, as in Hochreiter and Schmidhuber 1997. Blocks i, g, o."""

    gates = "igo"


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoOutputGateLSTM(PeepholeLSTM):
    """Greff et al. 2015, NOG: o = 1. Weights in blocks i, f, g."""

    gates = "ifg"


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoInputActivationLSTM(PeepholeLSTM):
    """Greff et al. 2015, NIAF: g = W_g x + U_g h + b_g, without tanh."""

    def input_activation(self, g):
        return g


@keras.saving.register_keras_serializable(package="kerasrnn")
class NoOutputActivationLSTM(PeepholeLSTM):
    """Greff et al. 2015, NOAF: h(t) = o c(t), without tanh."""

    def output_activation(self, c):
        return c


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoupledPeepholeLSTM(PeepholeLSTM):
    """Greff et al. 2015, CIFG: f = 1 - i. Weights in blocks i, g, o."""

    gates = "igo"

    def forget_gate(self, a, c):
        return 1 - self.input_gate(a, c)


@keras.saving.register_keras_serializable(package="kerasrnn")
class FullGateRecurrenceLSTM(PeepholeLSTM):
    """Greff et al. 2015, FGR: every gate also reads all three gates of the step before.

    Adds R [i(t-1), f(t-1), o(t-1)] to the sums of i, f and o; the state is (h, c, i, f, o).
    gate_kernel R [3H, 3H], rows and columns in the order i, f, o. As in the first LSTM
    (Hochreiter and Schmidhuber 1997).

    >>> FullGateRecurrenceLSTM(4).state_size
    (4, 4, 4, 4, 4)
    """

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.state_size = (units,) * 5

    def build(self, input_shape):
        super().build(input_shape)
        width = 3 * self.units
        self.gate_kernel = self.add_weight(
            (width, width), name="gate_kernel", initializer=self.recurrent_initializer
        )

    def step(self, z, state, linear):
        h, c, *last_gates = state
        a = self.sums(z, h, linear)
        products = linear(ops.concatenate(last_gates, axis=-1), self.gate_kernel, blocks=3)
        for name, r in zip("ifo", products, strict=True):
            a[name] = a[name] + r
        h, c, gates = self.cell_equations(a, c)
        return h, (h, c, *gates)


@keras.saving.register_keras_serializable(package="kerasrnn")
class CoupledLSTM(LSTM):
    """LSTM with one gate for writing and forgetting, and no peepholes.

    i = σ(W_i x + U_i h + b_i)     g = tanh(W_g x + U_g h + b_g)     o = σ(W_o x + U_o h + b_o)
    c(t) = (1 - i) c(t-1) + i g    h(t) = o tanh(c(t))

    Greff et al. 2015, CIFG without NP's peepholes; ONNX's LSTM with input_forget=1. Weights in
    blocks i, g, o.

    >>> CoupledLSTM(4).state_size
    (4, 4)
    """

    blocks = 3

    def __init__(self, units, **kwargs):
        kwargs["unit_forget_bias"] = False
        super().__init__(units, **kwargs)

    def add_bias(self):
        width = self.blocks * self.units
        return self.add_weight((width,), name="bias", initializer=self.bias_initializer)

    def step(self, z, state, linear):
        h, c = state
        y = linear(h, self.recurrent_kernel, blocks=3)
        i, g, o = (z_k + y_k for z_k, y_k in zip(z, y, strict=True))
        i, o = self.recurrent_activation(i), self.recurrent_activation(o)
        c = (1 - i) * c + i * self.activation(g)
        h = o * self.activation(c)
        return h, (h, c)
