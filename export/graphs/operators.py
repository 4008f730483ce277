"""Describes cells as ONNX's own operators LSTM, GRU and RNN.

D input, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from kerasrnn import cells

ACTIVATIONS = {  # Keras's name: (ONNX's name, alpha, beta); None without such a parameter
    "linear": ("Affine", 1.0, 0.0),
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "relu": ("Relu", None, None),
    "elu": ("Elu", 1.0, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
}
ALWAYS = 100.0  # σ(100) is 1 in float32: the bias of a gate that does not exist
SYMMETRIC = ("sigmoid", "hard_sigmoid")  # 1 - σ(a) = σ(-a)


@dataclass(frozen=True)
class Operator:
    """One of ONNX's recurrent operators with its weights; gates are in ONNX's order.

    Attributes:
        kind: "LSTM", "GRU" or "RNN".
        kernel, recurrent_kernel: [G H, D] and [G H, H].
        bias: [2 G H]: the bias of the input's product, then of the state's.
        peepholes: [3 H] for i, o, f, or None.
        activations: Keras's names of the operator's activations.
        attributes: further ONNX attributes.
    """

    kind: str
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    activations: tuple[str, ...]
    peepholes: np.ndarray | None = None
    attributes: dict = field(default_factory=dict)

    @property
    def form(self) -> tuple:
        """The properties that both directions of one ONNX node must share."""
        sizes = self.kernel.shape, self.recurrent_kernel.shape
        return self.kind, *sizes, self.peepholes is None, *self.attributes.items()


def operator_of(cell) -> Operator | None:
    """The ONNX operator of a cell, or None when ONNX has none.

    >>> cell = cells.MUT1(3)
    >>> operator_of(cell) is None
    True
    """
    make = OPERATORS.get(type(cell))
    operator = None if make is None or cell.compute_dtype != "float32" else make(cell)
    is_expressible = operator is not None and all(
        name in ACTIVATIONS for name in operator.activations
    )
    return operator if is_expressible else None


def _blocks(weight, count: int) -> list[np.ndarray]:
    """The blocks of a Keras weight [D, G H] or bias [G H], transposed: [H, D] or [H] each."""
    return np.split(_value(weight).T, count)


def _value(weight) -> np.ndarray:
    """The value of a weight as an array."""
    # A graph is being traced, and inputs may replace weights in it: leave both.
    with tf.init_scope(), keras.StatelessScope():
        return keras.ops.convert_to_numpy(weight)


def _name(activation) -> str:
    """Keras's name of an activation; "" for a function that is not Keras's."""
    name = getattr(activation, "__name__", "")
    return name if getattr(keras.activations, name, None) is activation else ""


def _with_zero_state_bias(bias: list[np.ndarray]) -> np.ndarray:
    """The bias of the input's product, followed by zeros for the state's."""
    bias = np.concatenate(bias)
    return np.concatenate([bias, np.zeros_like(bias)])


def _simple_rnn(cell) -> Operator:
    """The RNN operator of a simple recurrence."""
    bias = [np.zeros(cell.units, "float32") if cell.bias is None else _value(cell.bias)]
    kernels = (_value(weight).T for weight in (cell.kernel, cell.recurrent_kernel))
    return Operator("RNN", *kernels, _with_zero_state_bias(bias), (_name(cell.activation),))


def _gru(cell) -> Operator | None:
    """The GRU operator, or None where the update gate cannot be negated."""
    gate, H = _name(cell.recurrent_activation), cell.units
    if cell.update_replaces and gate not in SYMMETRIC:
        return None
    kernels = [_blocks(weight, 3) for weight in (cell.kernel, cell.recurrent_kernel)]
    if cell.bias is None:
        bias = np.zeros((2, 3 * H), "float32")
    else:
        bias = _value(cell.bias)
        bias = bias if cell.reset_after else np.stack([bias, np.zeros_like(bias)])
    groups = [*kernels, *(np.split(b, 3) for b in bias)]
    if cell.update_replaces:
        # ONNX's z keeps the old state. A cell whose z replaces it needs 1 - z: negate z's weights.
        groups = [[-z, r, g] for z, r, g in groups]
    W, R, b, b_u = (np.concatenate(group) for group in groups)
    reset = {"linear_before_reset": int(cell.reset_after)}
    activations = (gate, _name(cell.activation))
    return Operator("GRU", W, R, np.concatenate([b, b_u]), activations, attributes=reset)


def _lstm(cell) -> Operator | None:
    """The LSTM operator of any LSTM variant, or None.

    Gates that a cell lacks have zero weights and are always open.
    """
    gates, H = getattr(cell, "gates", "ifgo"), cell.units
    # ONNX computes f = 1 - i itself (`input_forget`), so a coupled cell gives it no f.
    coupled = isinstance(cell, cells.CoupledLSTM | cells.CoupledPeepholeLSTM)
    gates = "igo" if coupled else gates
    σ = _name(cell.recurrent_activation)
    if not set("io") <= set(gates) and σ not in SYMMETRIC:
        return None
    missing = 0.0 if coupled else ALWAYS

    def gathered(weight, default):
        blocks = dict(zip(gates, _blocks(weight, len(gates)), strict=True))
        return [blocks.get(gate, np.full_like(blocks["g"], default)) for gate in "iofg"]

    W, R = (np.concatenate(gathered(w, 0.0)) for w in (cell.kernel, cell.recurrent_kernel))
    bias = np.zeros(len(gates) * H, "float32") if cell.bias is None else cell.bias
    names = [_name(cell.activation)] * 2
    if isinstance(cell, cells.NoInputActivationLSTM):
        names[0] = "linear"
    if isinstance(cell, cells.NoOutputActivationLSTM):
        names[1] = "linear"
    return Operator(
        "LSTM",
        W,
        R,
        _with_zero_state_bias(gathered(bias, missing)),
        (σ, *names),
        _peepholes(cell),
        {"input_forget": 1} if coupled else {},
    )


def _peepholes(cell) -> np.ndarray | None:
    """The peephole weights [3 H] of i, o, f; zeros for gates without one."""
    peephole = getattr(cell, "peephole", None)
    if peephole is None:
        return None
    none = np.zeros(cell.units, "float32")
    values = {gate: _value(weight) for gate, weight in peephole.items()}
    return np.concatenate([values.get(gate, none) for gate in "iof"])


OPERATORS: dict[type, Callable[..., Operator | None]] = {
    cells.SimpleRNN: _simple_rnn,
    cells.GRU: _gru,
    **{
        getattr(cells, name): _lstm
        for name in (
            "LSTM",
            "PeepholeLSTM",
            "CoupledLSTM",
            "NoInputGateLSTM",
            "NoForgetGateLSTM",
            "NoOutputGateLSTM",
            "NoInputActivationLSTM",
            "NoOutputActivationLSTM",
            "CoupledPeepholeLSTM",
        )
    },
}


def attributes_of(operators: Sequence[Operator]) -> dict:
    """ONNX attributes of the node whose directions are these operators."""
    activations = [ACTIVATIONS[name] for operator in operators for name in operator.activations]
    attributes = {"activations": [name for name, _, _ in activations]}
    for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
        values = [activation[place] for activation in activations if activation[place] is not None]
        if values:
            attributes[key] = values
    H = operators[0].recurrent_kernel.shape[1]
    return {"hidden_size": H, **attributes, **operators[0].attributes}
