"""Replaces the markers of recurrences by ONNX's operators, with few nodes around them.

B batch, T time, D input, H units, N directions. A mask may have any pattern: the real steps of each
row are moved to the front, and `sequence_lens` has their number. The operator reads only these,
backwards too, and outputs zeros behind them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.export.graphs.loops import bodies
from kerasrnn.export.graphs.lowering import DOMAIN, MarkedRecurrence
from kerasrnn.export.graphs.operators import attributes_of
from kerasrnn.export.graphs.scan import write_scan
from kerasrnn.export.graphs.tidy import prune
from kerasrnn.export.graphs.writer import Writer


def expand(model: onnx.ModelProto, marked: dict[str, MarkedRecurrence]) -> None:
    """Replace every marker in a model by operators, in the bodies of loops too."""
    _expand(model.graph, model.graph, marked)
    opsets = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(opsets)


def _expand(graph, outer, marked) -> None:
    """Replace the markers of one graph; new constants go into the graph `outer`."""
    masks, expanded, outputs = {}, [], set()
    for node in graph.node:
        for body in bodies(node):
            _expand(body, outer, marked)
        if node.domain != DOMAIN:
            expanded.append(node)
            continue
        outputs.update(node.output)
        recurrence = marked[helper.get_node_attr_value(node, "token").decode()]
        write = Writer(node.name, outer)
        inputs = dict(zip(recurrence.inputs, node.input, strict=True))
        # All recurrences under one mask share its indices.
        if "mask" in inputs and inputs["mask"] not in masks:
            masks[inputs["mask"]] = Mask(write, inputs["mask"])
        _recurrence(write, recurrence, inputs, list(node.output), masks.get(inputs.get("mask")))
        expanded += write.nodes
    del graph.node[:]
    graph.node.extend(expanded)
    _rejoin(graph, outputs)
    prune(graph)


def _rejoin(graph: onnx.GraphProto, wholes: set[str]) -> None:
    """Skip a split into directions that is followed by the opposite concatenation.

    What follows then reads the whole output [B, T, N H] directly.
    """
    splits = {
        tuple(node.output): node
        for node in graph.node
        if node.op_type == "Split" and node.input[0] in wholes
    }
    for node in graph.node:
        split = splits.get(tuple(node.input)) if node.op_type == "Concat" else None
        if split is not None and helper.get_node_attr_value(node, "axis") in (2, -1):
            node.CopyFrom(helper.make_node("Identity", split.input[:1], node.output, node.name))


class Mask:
    """Indices computed from a mask [B, T], for all layers that read under it."""

    def __init__(self, write: Writer, mask: str):
        self.write, self.mask = write, mask
        self.real = write("Cast", mask, to=TensorProto.INT64)
        self.B, self.T = write.size(mask, 0), write.size(mask, 1)
        lengths = write("ReduceSum", self.real, write.index(1), keepdims=0)
        self.lengths = write("Cast", lengths, to=TensorProto.INT32)
        self.computed_places = {}
        zero, one = (write.constant(np.int64(number)) for number in (0, 1))
        rows = write("Range", zero, write("Squeeze", self.B), one)
        self.rows = write("Unsqueeze", rows, write.index(1))  # [B, 1]
        # TopK keeps the order of equal numbers: first the real steps, in order, then the others.
        top = [write.name("top"), write.name("order")]
        write.nodes.append(helper.make_node("TopK", [self.real, self.T], top, top[0], axis=1))
        flat = write("Add", top[1], write("Mul", self.rows, self.T))
        self.front = write("Transpose", flat, perm=[1, 0])  # [T, B], of [B T] steps
        self.count = write("CumSum", self.real, one)
        self.no_step = write("Unsqueeze", write("Equal", lengths, zero), write.index(1))  # [B, 1]

    def places(self, write: Writer, marked: MarkedRecurrence) -> str:
        """The index of each step's output among the operator's outputs [T N B, H]: [B, T, N]."""
        N = len(marked.operators)
        # Without zero padding, a masked step repeats the step that was read before it: backwards,
        # that is the next one.
        is_next = marked.backwards and not marked.zero_padding
        key = N, is_next, marked.zero_padding
        if key not in self.computed_places:
            place, offsets = self.count, range(-N, 0)  # -1 is the last step of all, which is zeros
            if marked.zero_padding:
                place = write("Mul", self.count, self.real)
            elif is_next:
                place, offsets = write("Sub", self.count, self.real), [0]
            step = write("Mul", self.B, write.index(N))
            first = write("Add", self.rows, write("Mul", self.B, write.index(*offsets)))  # [B, N]
            place, first = (
                write("Unsqueeze", tensor, write.index(axis))
                for tensor, axis in ((write("Mul", place, step), 2), (first, 1))
            )
            self.computed_places[key] = write("Add", place, first)
        return self.computed_places[key]


def _recurrence(
    write: Writer, marked: MarkedRecurrence, inputs: dict, outputs: list, mask: Mask | None
) -> None:
    """Write the nodes of one marker, which compute `outputs`."""
    if marked.operators[0].kind == "RNN":  # ONNX Runtime's RNN is slower than a scan
        return write_scan(write, marked, inputs, outputs)
    N, (_, D), H = len(marked.operators), marked.operators[0].kernel.shape, marked.units
    if mask is None:
        X, no_step = write("Transpose", inputs["x"], perm=[1, 0, 2]), ""
        T = write.size(inputs["x"], 1)
    else:
        X = write("Gather", write("Reshape", inputs["x"], write.index(-1, D)), mask.front, axis=0)
        T, no_step, inputs["sequence_lens"] = mask.T, mask.no_step, mask.lengths
    node = _node(write, marked, {**inputs, "X": X})
    if marked.maybe_empty:
        empty = write("Equal", T, write.index(0))
        shapes = [[0, N, None, H], *[[N, None, H]] * (len(node.output) - 1)]
        node, no_step = write.guarded(node, empty, write.size(X, 1), shapes), no_step or empty
    write.nodes.append(node)
    Y, *states = node.output
    if marked.sequences:
        _sequences(write, marked, Y, outputs[0], mask)
    else:
        write.directions(states[0], outputs[:N])
    outputs = outputs[1 if marked.sequences else N :]
    for i, (name, state) in enumerate(zip(("initial_h", "initial_c"), states, strict=False)):
        if name in inputs and no_step:  # without a step, ONNX Runtime gives zeros
            state = write("Where", no_step, inputs[name], state)
        write.directions(state, outputs[i :: len(states)])


def _node(write: Writer, marked: MarkedRecurrence, inputs: dict) -> onnx.NodeProto:
    """The operator's node: Y [T, N, B, H] and the final states [N, B, H]."""
    weights = {
        "W": [operator.kernel for operator in marked.operators],
        "R": [operator.recurrent_kernel for operator in marked.operators],
        "B": [operator.bias for operator in marked.operators],
        "P": [operator.peepholes for operator in marked.operators],
    }
    for key, values in weights.items():
        if values[0] is not None:
            inputs[key] = write.constant(np.stack(values).astype("float32"))
    kind = marked.operators[0].kind
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    order += ["initial_c", "P"] if kind == "LSTM" else []
    ordered = [inputs.get(key, "") for key in order]
    while not ordered[-1]:  # optional inputs at the end may be left out
        ordered.pop()
    outputs = [write.name(name) for name in ("Y", "Y_h", "Y_c")[: 3 if kind == "LSTM" else 2]]
    direction = "reverse" if marked.backwards else "forward"
    direction = direction if len(marked.operators) == 1 else "bidirectional"
    attributes = attributes_of(marked.operators)
    return helper.make_node(kind, ordered, outputs, outputs[0], direction=direction, **attributes)


def _sequences(
    write: Writer, marked: MarkedRecurrence, Y: str, output: str, mask: Mask | None
) -> None:
    """Reshape Y [T, N, B, H] to [B, T, N H], with each step in its place."""
    N, H = len(marked.operators), marked.units
    if mask is None:
        Y = write("Transpose", Y, perm=[2, 0, 1, 3])
    else:
        places = mask.places(write, marked)
        Y = write("Gather", write("Reshape", Y, write.index(-1, H)), places, axis=0)
    write("Reshape", Y, write.index(0, 0, N * H), output=output)
