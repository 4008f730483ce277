"""The markers of recurrences -> ONNX's operators, with as few nodes around them as will do.

B batch, T time, D input, H units, N directions. Under a mask the real steps of each row are
brought to the front, whatever the mask is, and `sequence_lens` has their number; the operator
reads backwards within them, too, and gives zeros behind them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.export.graphs.loops import bodies
from kerasrnn.export.graphs.lowering import DOMAIN, Marked
from kerasrnn.export.graphs.operators import attributes_of
from kerasrnn.export.graphs.scan import scanned
from kerasrnn.export.graphs.tidy import prune
from kerasrnn.export.graphs.writer import Writer


def expand(model: onnx.ModelProto, marked: dict[str, Marked]) -> None:
    """Put operators in the place of every marker, in the bodies of loops too."""
    _expand(model.graph, model.graph, marked)
    kept = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _expand(graph, outer, marked) -> None:
    masks, done, wholes = {}, [], set()
    for node in graph.node:
        for body in bodies(node):
            _expand(body, outer, marked)
        if node.domain != DOMAIN:
            done.append(node)
            continue
        wholes.update(node.output)
        one = marked[helper.get_node_attr_value(node, "token").decode()]
        write = Writer(node.name, outer)
        given = dict(zip(one.inputs, node.input, strict=True))
        if "mask" in given and given["mask"] not in masks:  # one for all that read under it
            masks[given["mask"]] = Mask(write, given["mask"])
        _recurrence(write, one, given, list(node.output), masks.get(given.get("mask")))
        done += write.nodes
    del graph.node[:]
    graph.node.extend(done)
    _rejoin(graph, wholes)
    prune(graph)


def _rejoin(graph: onnx.GraphProto, wholes: set[str]) -> None:
    """Both directions' outputs, taken apart and put together again, are the whole [B, T, N H]."""
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
    """Indices made of a mask [B, T], for all layers that read under it."""

    def __init__(self, write: Writer, mask: str):
        self.write, self.mask = write, mask
        self.real = write("Cast", mask, to=TensorProto.INT64)
        self.B, self.T = write.size(mask, 0), write.size(mask, 1)
        lengths = write("ReduceSum", self.real, write.index(1), keepdims=0)
        self.lengths = write("Cast", lengths, to=TensorProto.INT32)
        self.known = {}
        zero, one = (write.constant(np.int64(number)) for number in (0, 1))
        rows = write("Range", zero, write("Squeeze", self.B), one)
        self.rows = write("Unsqueeze", rows, write.index(1))  # [B, 1]
        # Equal numbers keep their order in TopK: real steps first, then the others.
        top = [write.name("top"), write.name("order")]
        write.nodes.append(helper.make_node("TopK", [self.real, self.T], top, top[0], axis=1))
        flat = write("Add", top[1], write("Mul", self.rows, self.T))
        self.front = write("Transpose", flat, perm=[1, 0])  # [T, B], of [B T] steps
        self.count = write("CumSum", self.real, one)
        self.none = write("Unsqueeze", write("Equal", lengths, zero), write.index(1))  # [B, 1]

    def places(self, write: Writer, one: Marked) -> str:
        """[B, T, N]: where in the operator's outputs [T N B, H] each step finds its own."""
        N = len(one.operators)
        later = one.backwards and not one.zero_padding  # a masked step repeats the next real one
        key = N, later, one.zero_padding
        if key not in self.known:
            place, offsets = self.count, range(-N, 0)  # -1 is the last step of all, which is zeros
            if one.zero_padding:
                place = write("Mul", self.count, self.real)
            elif later:
                place, offsets = write("Sub", self.count, self.real), [0]
            step = write("Mul", self.B, write.index(N))
            first = write("Add", self.rows, write("Mul", self.B, write.index(*offsets)))  # [B, N]
            place, first = (
                write("Unsqueeze", tensor, write.index(axis))
                for tensor, axis in ((write("Mul", place, step), 2), (first, 1))
            )
            self.known[key] = write("Add", place, first)
        return self.known[key]


def _recurrence(write: Writer, one: Marked, given: dict, outputs: list, mask: Mask | None) -> None:
    """The nodes of one marker, which give its outputs."""
    if one.operators[0].kind == "RNN":  # which ONNX Runtime has slower than a scan
        return scanned(write, one, given, outputs)
    N, (_, D), H = len(one.operators), one.operators[0].kernel.shape, one.units
    if mask is None:
        X, none = write("Transpose", given["x"], perm=[1, 0, 2]), ""
        T = write.size(given["x"], 1)
    else:
        X = write("Gather", write("Reshape", given["x"], write.index(-1, D)), mask.front, axis=0)
        T, none, given["sequence_lens"] = mask.T, mask.none, mask.lengths
    node = _node(write, one, {**given, "X": X})
    if one.maybe_empty:
        empty = write("Equal", T, write.index(0))
        shapes = [[0, N, None, H], *[[N, None, H]] * (len(node.output) - 1)]
        node, none = write.guarded(node, empty, write.size(X, 1), shapes), none or empty
    write.nodes.append(node)
    Y, *states = node.output
    if one.sequences:
        _sequences(write, one, Y, outputs[0], mask)
    else:
        write.directions(states[0], outputs[:N])
    outputs = outputs[1 if one.sequences else N :]
    for i, (name, state) in enumerate(zip(("initial_h", "initial_c"), states, strict=False)):
        if name in given and none:  # where there is no step, ORT makes zeros
            state = write("Where", none, given[name], state)
        write.directions(state, outputs[i :: len(states)])


def _node(write: Writer, one: Marked, given: dict) -> onnx.NodeProto:
    """The operator itself: Y [T, N, B, H] and the final states [N, B, H]."""
    weights = {
        "W": [operator.kernel for operator in one.operators],
        "R": [operator.recurrent_kernel for operator in one.operators],
        "B": [operator.bias for operator in one.operators],
        "P": [operator.peepholes for operator in one.operators],
    }
    for key, values in weights.items():
        if values[0] is not None:
            given[key] = write.constant(np.stack(values).astype("float32"))
    kind = one.operators[0].kind
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h"]
    order += ["initial_c", "P"] if kind == "LSTM" else []
    inputs = [given.get(key, "") for key in order]
    while not inputs[-1]:
        inputs.pop()
    outputs = [write.name(name) for name in ("Y", "Y_h", "Y_c")[: 3 if kind == "LSTM" else 2]]
    direction = "reverse" if one.backwards else "forward"
    direction = direction if len(one.operators) == 1 else "bidirectional"
    attributes = attributes_of(one.operators)
    return helper.make_node(kind, inputs, outputs, outputs[0], direction=direction, **attributes)


def _sequences(write: Writer, one: Marked, Y: str, output: str, mask: Mask | None) -> None:
    """Y [T, N, B, H] -> [B, T, N H], each step in its own place."""
    N, H = len(one.operators), one.units
    if mask is None:
        Y = write("Transpose", Y, perm=[2, 0, 1, 3])
    else:
        places = mask.places(write, one)
        Y = write("Gather", write("Reshape", Y, write.index(-1, H)), places, axis=0)
    write("Reshape", Y, write.index(0, 0, N * H), output=output)
