"""Recurrences as ONNX's own operators: LSTM, GRU and RNN nodes in place of loops.

B batch, T time, D input, H units, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from kerasrnn import cells
from kerasrnn.recurrence import Problem, at_least_one_step
from kerasrnn.steps import time_major

ACTIVATIONS = {  # of Keras: ONNX's name, alpha, beta; None where there is none
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
    """One of ONNX's recurrent operators with its weights, gates in ONNX's order.

    Attributes:
        kind: "LSTM", "GRU" or "RNN".
        kernel, recurrent_kernel: [G H, D] and [G H, H].
        bias: [2 G H], of the input's product and of the state's.
        peepholes: [3 H] of i, o, f, or None.
        activations: names of Keras's, as many as the operator has.
        attributes: others.
    """

    kind: str
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    activations: tuple[str, ...]
    peepholes: np.ndarray | None = None
    attributes: dict = field(default_factory=dict)


def operator_of(cell) -> Operator | None:
    """What ONNX has for a cell; None where it has nothing.

    >>> cell = cells.MUT1(3)
    >>> operator_of(cell) is None
    True
    """
    make = OPERATORS.get(type(cell))
    found = None if make is None or cell.compute_dtype != "float32" else make(cell)
    known = found is not None and all(name in ACTIVATIONS for name in found.activations)
    return found if known else None


def _blocks(weight, count: int) -> list[np.ndarray]:
    """A weight [D, G H] or bias [G H] of Keras in its blocks, rows first: [H, D] or [H] each."""
    return np.split(_value(weight).T, count)


def _value(weight) -> np.ndarray:
    with tf.init_scope():  # a graph is being traced
        return keras.ops.convert_to_numpy(weight)


def _name(activation) -> str:
    """Keras's name of an activation of Keras's; "" of any other function."""
    name = getattr(activation, "__name__", "")
    return name if getattr(keras.activations, name, None) is activation else ""


def _both(bias: list[np.ndarray]) -> np.ndarray:
    """The bias of the input's product, and none of the state's."""
    bias = np.concatenate(bias)
    return np.concatenate([bias, np.zeros_like(bias)])


def _simple_rnn(cell) -> Operator:
    bias = [np.zeros(cell.units, "float32") if cell.bias is None else _value(cell.bias)]
    kernels = (_value(weight).T for weight in (cell.kernel, cell.recurrent_kernel))
    return Operator("RNN", *kernels, _both(bias), (_name(cell.activation),))


def _gru(cell) -> Operator | None:
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
        groups = [[-z, r, g] for z, r, g in groups]
    W, R, b, b_u = (np.concatenate(group) for group in groups)
    reset = {"linear_before_reset": int(cell.reset_after)}
    activations = (gate, _name(cell.activation))
    return Operator("GRU", W, R, np.concatenate([b, b_u]), activations, attributes=reset)


def _lstm(cell) -> Operator | None:
    """Any of the LSTMs: gates that a cell lacks have no weights and are always open."""
    gates, H = getattr(cell, "gates", "ifgo"), cell.units
    coupled = isinstance(cell, cells.CoupledLSTM | cells.CoupledPeepholeLSTM)
    gates = "igo" if coupled else gates
    σ = _name(cell.recurrent_activation)
    if not set("io") <= set(gates) and σ not in SYMMETRIC:
        return None
    missing = 0.0 if coupled else ALWAYS

    def gathered(weight, rest):
        blocks = dict(zip(gates, _blocks(weight, len(gates)), strict=True))
        return [blocks.get(gate, np.full_like(blocks["g"], rest)) for gate in "iofg"]

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
        _both(gathered(bias, missing)),
        (σ, *names),
        _peepholes(cell),
        {"input_forget": 1} if coupled else {},
    )


def _peepholes(cell) -> np.ndarray | None:
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


class Lowering:
    """`lower` of `kerasrnn.recurrence.exporting`, and the handler that tf2onnx then needs.

    A recurrence is traced as a marker, a Python function that nobody calls; the converter puts
    the operator in its place.
    """

    def __init__(self):
        self.marked = {}  # by the marker's token: the operator, and names of the marker's inputs
        self.handlers = {"PyFuncStateless": (self.handle, [])}

    def __call__(self, problem: Problem):
        """(output, states) of a recurrence, or None where no operator can express it."""
        if isinstance(problem.cell, cells.Dropout) and not problem.training:
            return self(replace(problem, cell=problem.cell.cell))
        operator = operator_of(problem.cell)
        if operator is None or problem.x.shape.rank != 3 or problem.x.shape[1] == 0:
            return None
        if problem.x.shape[1] is None:
            return at_least_one_step(problem, lambda problem: self._lowered(problem, operator))
        return self._lowered(problem, operator)

    def _lowered(self, problem: Problem, operator: Operator):
        x, mask = tf.convert_to_tensor(problem.x), problem.mask
        inputs = {"X": time_major(x) if mask is None else _to_the_front(x, mask)}
        if mask is not None:
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
            inputs["sequence_lens"] = lengths
        first = tree.flatten(problem.states)
        if not problem.zero_start:
            names = ("initial_h", "initial_c")
            inputs.update({n: state[None] for n, state in zip(names, first, strict=False)})
        Y, *states = self._marker(operator, inputs, len(first))
        if mask is not None and not problem.zero_start:  # of a row without steps ORT makes zeros
            none = lengths[:, None] == 0
            states = [tf.where(none, h, new) for h, new in zip(first, states, strict=True)]
        output = states[0]
        if problem.sequences:
            output = time_major(Y) if mask is None else _spread(Y, mask)
        return output, tree.pack_sequence_as(problem.states, states)

    def _marker(self, operator: Operator, inputs: dict, count: int):
        """Y [T, B, H] and the final states [B, H], as the operator will give them."""

        def nobody(*arrays):
            raise RuntimeError("a marker of an export was run; it stands for an ONNX operator")

        marker = tf.numpy_function(nobody, [*inputs.values()], [tf.float32] * (1 + count), False)
        self.marked[marker[0].op.get_attr("token").decode()] = operator, tuple(inputs)
        T, B, _ = keras.ops.shape(inputs["X"])  # numbers where they are known
        H = operator.recurrent_kernel.shape[1]
        return [tf.reshape(marker[0], [T, B, H]), *(tf.reshape(m, [B, H]) for m in marker[1:])]

    def handle(self, context, node, name, arguments):
        """tf2onnx's custom handler: the marker -> the operator."""
        operator, names = self.marked[node.get_attr_str("token")]
        given = dict(zip(names, node.input, strict=True))
        weights = {
            "W": operator.kernel,
            "R": operator.recurrent_kernel,
            "B": operator.bias,
            "P": operator.peepholes,
        }
        for key, value in weights.items():
            if value is not None:
                constant = context.make_const(f"{name}_{key}", value[None].astype("float32"))
                given[key] = constant.output[0]
        order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
        order += ["initial_c", "P"] if operator.kind == "LSTM" else []
        inputs = [given.get(key, "") for key in order]
        while not inputs[-1]:
            inputs.pop()
        H = operator.recurrent_kernel.shape[1]
        shapes = [[-1, 1, -1, H], *[[1, -1, H]] * (len(node.output) - 1)]
        outputs, dtypes = list(node.output), [context.get_dtype(o) for o in node.output]
        context.remove_node(node.name)
        context.make_node(
            operator.kind,
            inputs,
            attr={"hidden_size": H, **_activations(operator), **operator.attributes},
            outputs=outputs,
            name=name,
            shapes=shapes,
            dtypes=dtypes,
        )


def _activations(operator: Operator) -> dict:
    found = [ACTIVATIONS[name] for name in operator.activations]
    attributes = {"activations": [name for name, _, _ in found]}
    for key, place in (("activation_alpha", 1), ("activation_beta", 2)):
        values = [one[place] for one in found if one[place] is not None]
        if values:
            attributes[key] = values
    return attributes


def _to_the_front(x, mask):
    """x [B, T, D] -> [T, B, D], the real steps of each row first, in their order, whatever the
    mask: one gather, in the place of a transposition."""
    B, T, D = keras.ops.shape(x)
    rank = tf.range(T, 0, -1) + tf.where(mask, T, 0)  # real steps above others, early above late
    places = tf.math.top_k(rank, T).indices + T * tf.range(B)[:, None]
    return tf.gather(tf.reshape(x, [B * T, D]), tf.transpose(places))


def _spread(Y, mask):
    """Outputs Y [T, B, H] of real steps, those first -> [B, T, H], back in their places; where the
    mask is False the one before is repeated, zeros before the first."""
    T, B, H = keras.ops.shape(Y)
    place = tf.cumsum(tf.cast(mask, tf.int32), axis=1) - 1
    # A row that begins late has fewer steps than T, and the operator's zeros behind them.
    place = tf.where(place < 0, T - 1, place)
    return tf.gather(tf.reshape(Y, [T * B, H]), place * B + tf.range(B)[:, None])
