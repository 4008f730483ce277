"""Simple recurrences as an ONNX `Scan`, the input's product before it.

ONNX Runtime's own RNN operator multiplies step by step with weights that it has not prepared: the
scan is faster but for one row of few units.

B batch, T time, D input, H units, N directions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.export.graphs.lowering import Marked
from kerasrnn.export.graphs.operators import ACTIVATIONS, Operator
from kerasrnn.export.graphs.writer import Writer


def scanned(write: Writer, one: Marked, given: dict, outputs: list[str]) -> None:
    """h(t) = f(W x(t) + b + R h(t-1)) in each direction: the nodes of a marker."""
    N, H, mask = len(one.operators), one.units, given.get("mask")
    X, zero = write("Transpose", given["x"], perm=[1, 0, 2]), write.constant(np.float32(0))
    B, columns = write.size(X, 1), []
    for operator in one.operators:
        product = write("MatMul", X, write.constant(operator.kernel.T))
        columns.append(write("Add", product, write.constant(sum(np.split(operator.bias, 2)))))
    if mask:
        real = write(
            "Unsqueeze", write("Transpose", mask, perm=[1, 0]), write.index(2)
        )  # [T, B, 1]
    first = [write("ConstantOfShape", write("Concat", B, write.index(H), axis=0))] * N
    if "initial_h" in given:
        first = [write.name("first") for _ in one.operators]
        write.directions(given["initial_h"], first)
    node = _scan(write, one, first, columns, [real] * N if mask else [])
    if one.maybe_empty:
        empty = write("Equal", write.size(X, 0), write.index(0))
        node = write.guarded(node, empty, B, [[None, H]] * N + [[0, None, H]] * N)
    write.nodes.append(node)
    states, ys = node.output[:N], node.output[N:]
    if one.sequences:
        y = write("Concat", *ys, axis=2) if N > 1 else ys[0]
        if mask and (one.zero_padding or "initial_h" in given):
            y = write("Where", real if one.zero_padding else _begun(write, one, real), y, zero)
        write("Transpose", y, output=outputs[0], perm=[1, 0, 2])
    for n, (state, output) in enumerate(zip(states, outputs[-N:], strict=True)):
        if not one.sequences and mask and "initial_h" in given:
            write("Where", _any(write, real), state, zero, output=outputs[n])
        elif not one.sequences:
            write("Identity", state, output=outputs[n])
        if one.maybe_empty and "initial_h" in given:
            state = write("Where", empty, first[n], state)
        write("Identity", state, output=output)


def _scan(write: Writer, one: Marked, first: list, columns: list, real: list) -> onnx.NodeProto:
    """Final states [B, H] and outputs [T, B, H], N of each; a step without mask keeps the state."""
    N, H = len(one.operators), one.units
    body, states, outputs = onnx.GraphProto(), [], []
    step = Writer(f"{write.prefix}/step", body)  # weights in the body, where they are prepared
    info = helper.make_tensor_value_info
    given = [info(step.name("h"), TensorProto.FLOAT, [None, H]) for _ in range(N)]
    given += [info(step.name("z"), TensorProto.FLOAT, [None, H]) for _ in range(N)]
    given += [info(step.name("real"), TensorProto.BOOL, [None, 1]) for _ in real]
    names = [one.name for one in given]
    for n, operator in enumerate(one.operators):
        h = names[n]
        product = step("MatMul", h, step.constant(operator.recurrent_kernel.T))
        new = _activated(step, operator, step("Add", product, names[N + n]))
        if real:
            new = step("Where", names[2 * N + n], new, h)
        states.append(new)
        outputs.append(step("Identity", new))
    results = [info(name, TensorProto.FLOAT, [None, H]) for name in states + outputs]
    body = helper.make_graph(step.nodes, step.prefix, given, results, body.initializer)
    turns = [0, 1] if N > 1 else [int(one.backwards)]
    made = [write.name(kind) for kind in ["Y_h"] * N + ["Y"] * N]
    return helper.make_node(
        "Scan",
        [*first, *columns, *real],
        made,
        made[0],
        body=body,
        num_scan_inputs=len(columns + real),
        scan_input_directions=turns * (2 if real else 1),
        scan_output_directions=turns,
    )


def _activated(write: Writer, operator: Operator, x: str) -> str:
    name, *numbers = ACTIVATIONS[operator.activations[0]]
    if name == "Affine":  # no operator of ONNX's outside of its recurrent ones
        return write("Identity", x)
    numbers = zip(("alpha", "beta"), numbers, strict=True)
    return write(name, x, **{key: number for key, number in numbers if number is not None})


def _begun(write: Writer, one: Marked, real: str) -> str:
    """bool [T, B, 1]: from the first real step on, as it is read."""
    count = write("Cast", real, to=TensorProto.INT32)
    axis = write.constant(np.int64(0))
    count = write("CumSum", count, axis, reverse=int(one.backwards))
    return write("Cast", count, to=TensorProto.BOOL)


def _any(write: Writer, real: str) -> str:
    """bool [B, 1]: whether a row has a real step."""
    count = write("Cast", real, to=TensorProto.INT32)
    count = write("ReduceSum", count, write.index(0), keepdims=0)
    return write("Cast", count, to=TensorProto.BOOL)
