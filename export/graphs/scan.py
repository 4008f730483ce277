"""Writes simple recurrences as an ONNX `Scan`, with the input's product computed before it.

ONNX Runtime's own RNN operator multiplies at each step with weights that it has not prepared. The
scan is faster, except for one row of few units.

B batch, T time, D input, H units, N directions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.export.graphs.lowering import MarkedRecurrence
from kerasrnn.export.graphs.operators import ACTIVATIONS, Operator
from kerasrnn.export.graphs.writer import Writer


def write_scan(write: Writer, marked: MarkedRecurrence, inputs: dict, outputs: list[str]) -> None:
    """Write the nodes of a marker: h(t) = f(W x(t) + b + R h(t-1)) in each direction."""
    N, H, mask = len(marked.operators), marked.units, inputs.get("mask")
    X, zero = write("Transpose", inputs["x"], perm=[1, 0, 2]), write.constant(np.float32(0))
    B, columns = write.size(X, 1), []
    for operator in marked.operators:
        product = write("MatMul", X, write.constant(operator.kernel.T))
        columns.append(write("Add", product, write.constant(sum(np.split(operator.bias, 2)))))
    if mask:
        turned = write("Transpose", mask, perm=[1, 0])
        real = write("Unsqueeze", turned, write.index(2))  # [T, B, 1]
    initial = [write("ConstantOfShape", write("Concat", B, write.index(H), axis=0))] * N
    if "initial_h" in inputs:
        initial = [write.name("first") for _ in marked.operators]
        write.directions(inputs["initial_h"], initial)
    node = _scan(write, marked, initial, columns, [real] * N if mask else [])
    if marked.maybe_empty:
        empty = write("Equal", write.size(X, 0), write.index(0))
        node = write.guarded(node, empty, B, [[None, H]] * N + [[0, None, H]] * N)
    write.nodes.append(node)
    states, ys = node.output[:N], node.output[N:]
    if marked.sequences:
        y = write("Concat", *ys, axis=2) if N > 1 else ys[0]
        if mask and (marked.zero_padding or "initial_h" in inputs):
            shown = real if marked.zero_padding else _since_first_step(write, marked, real)
            y = write("Where", shown, y, zero)
        write("Transpose", y, output=outputs[0], perm=[1, 0, 2])
    # A row without a real step outputs 0, but its state stays the initial one.
    for n, (state, output) in enumerate(zip(states, outputs[-N:], strict=True)):
        if not marked.sequences and mask and "initial_h" in inputs:
            write("Where", _has_step(write, real), state, zero, output=outputs[n])
        elif not marked.sequences:
            write("Identity", state, output=outputs[n])
        if marked.maybe_empty and "initial_h" in inputs:
            state = write("Where", empty, initial[n], state)
        write("Identity", state, output=output)


def _scan(
    write: Writer, marked: MarkedRecurrence, initial: list, columns: list, real: list
) -> onnx.NodeProto:
    """The scan's node: final states [B, H] and outputs [T, B, H], N of each.

    A masked step keeps the state.
    """
    N, H = len(marked.operators), marked.units
    body, states, outputs = onnx.GraphProto(), [], []
    step = Writer(f"{write.prefix}/step", body)  # ONNX Runtime prepares weights in the body
    info = helper.make_tensor_value_info
    body_inputs = [info(step.name("h"), TensorProto.FLOAT, [None, H]) for _ in range(N)]
    body_inputs += [info(step.name("z"), TensorProto.FLOAT, [None, H]) for _ in range(N)]
    body_inputs += [info(step.name("real"), TensorProto.BOOL, [None, 1]) for _ in real]
    names = [value.name for value in body_inputs]
    for n, operator in enumerate(marked.operators):
        h = names[n]
        product = step("MatMul", h, step.constant(operator.recurrent_kernel.T))
        new = _activated(step, operator, step("Add", product, names[N + n]))
        if real:
            new = step("Where", names[2 * N + n], new, h)
        states.append(new)
        outputs.append(step("Identity", new))
    results = [info(name, TensorProto.FLOAT, [None, H]) for name in states + outputs]
    body = helper.make_graph(step.nodes, step.prefix, body_inputs, results, body.initializer)
    directions = [0, 1] if N > 1 else [int(marked.backwards)]
    outer_outputs = [write.name(kind) for kind in ["Y_h"] * N + ["Y"] * N]
    return helper.make_node(
        "Scan",
        [*initial, *columns, *real],
        outer_outputs,
        outer_outputs[0],
        body=body,
        num_scan_inputs=len(columns + real),
        scan_input_directions=directions * (2 if real else 1),
        scan_output_directions=directions,
    )


def _activated(write: Writer, operator: Operator, x: str) -> str:
    """The activation of a simple recurrence."""
    name, *numbers = ACTIVATIONS[operator.activations[0]]
    if name == "Affine":  # `Affine` exists in recurrent operators only; here it is linear
        return write("Identity", x)
    numbers = zip(("alpha", "beta"), numbers, strict=True)
    return write(name, x, **{key: number for key, number in numbers if number is not None})


def _since_first_step(write: Writer, marked: MarkedRecurrence, real: str) -> str:
    """bool [T, B, 1]: True from the first real step on, in reading order."""
    count = write("Cast", real, to=TensorProto.INT32)
    axis = write.constant(np.int64(0))
    count = write("CumSum", count, axis, reverse=int(marked.backwards))
    return write("Cast", count, to=TensorProto.BOOL)


def _has_step(write: Writer, real: str) -> str:
    """bool [B, 1]: whether a row has any real step."""
    count = write("Cast", real, to=TensorProto.INT32)
    count = write("ReduceSum", count, write.index(0), keepdims=0)
    return write("Cast", count, to=TensorProto.BOOL)
