"""The markers of recurrences -> ONNX's operators, with as few nodes around them as will do.

B batch, T time, D input, H units, N directions. Under a mask the real steps of each row are
brought to the front, whatever the mask is, and `sequence_lens` has their number; the operator
reads backwards within them, too, and gives zeros behind them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kerasrnn.export.lowering import DOMAIN, Marked
from kerasrnn.export.onnx_loops import bodies, nodes
from kerasrnn.export.operators import attributes_of


def expand(model: onnx.ModelProto, marked: dict[str, Marked]) -> None:
    """Put operators in the place of every marker, in the bodies of loops too."""
    _expand(model.graph, model.graph, marked)
    kept = [opset for opset in model.opset_import if opset.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _expand(graph, outer, marked) -> None:
    read = {name for node in nodes(graph) for name in node.input}
    read |= {output.name for output in graph.output}
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
        if "mask" in given and given["mask"] not in masks:
            masks[given["mask"]] = Mask(write, given["mask"])
        outputs = [name if name in read else "" for name in node.output]
        _recurrence(write, one, given, outputs, masks.get(given.get("mask")))
        done += write.nodes
    del graph.node[:]
    graph.node.extend(_rejoined(done, wholes))


def _rejoined(found: list[onnx.NodeProto], wholes: set[str]) -> list[onnx.NodeProto]:
    """Both directions' outputs, taken apart and put together again: the whole [B, T, N H]."""
    splits = {
        tuple(node.output): node
        for node in found
        if node.op_type == "Split" and node.input[0] in wholes
    }
    for node in found:
        split = splits.get(tuple(node.input)) if node.op_type == "Concat" else None
        if split is not None and helper.get_node_attr_value(node, "axis") in (2, -1):
            whole = helper.make_node("Identity", split.input[:1], node.output, node.name)
            node.CopyFrom(whole)
    read = {name for node in found for name in node.input}
    return [node for node in found if tuple(node.output) not in splits or read & {*node.output}]


class Writer:
    """Nodes for one marker; their constants stand in the outermost graph."""

    def __init__(self, prefix: str, outer: onnx.GraphProto):
        self.prefix, self.outer, self.nodes, self.count = prefix, outer, [], 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{self.prefix}/{kind}_{self.count}"

    def constant(self, value) -> str:
        name = self.name("constant")
        self.outer.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes) -> str:
        output = output or self.name(op)
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def index(self, *numbers: int) -> str:
        """int64 [len(numbers)]."""
        return self.constant(np.array(numbers, "int64"))

    def size(self, tensor: str, axis: int) -> str:
        """int64 [1]."""
        return self("Shape", tensor, start=axis, end=axis + 1)


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
    """The nodes of one marker; those of its outputs that are "" are not asked for."""
    N, (_, D) = len(one.operators), one.operators[0].kernel.shape
    none = ""
    if mask is None:
        X, T = write("Transpose", given["x"], perm=[1, 0, 2]), write.size(given["x"], 1)
    else:
        X = write("Gather", write("Reshape", given["x"], write.index(-1, D)), mask.front, axis=0)
        T, given["sequence_lens"] = mask.T, mask.lengths
    node = _node(write, one, {**given, "X": X})
    if one.maybe_empty:
        none = write("Equal", T, write.index(0))
        node = _guarded(write, node, none, N)
    write.nodes.append(node)
    Y, *states = node.output
    count = 1 if one.sequences else N
    if not one.sequences:
        _directions(write, states[0], outputs[:N])
    elif outputs[0]:
        _sequences(write, one, Y, outputs[0], mask)
    if mask is not None and "initial_h" in given:
        none = write("Equal", mask.lengths, write.constant(np.int32(0)))
        none = write("Unsqueeze", none, write.index(1))  # [B, 1]
    for i, (name, state) in enumerate(zip(("initial_h", "initial_c"), states, strict=False)):
        wanted = outputs[count + i :: len(states)]
        if name in given and none and any(wanted):  # where there is no step, ORT makes zeros
            state = write("Where", none, given[name], state)
        _directions(write, state, wanted)


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


def _guarded(write: Writer, node: onnx.NodeProto, none: str, N: int) -> onnx.NodeProto:
    """The operator, or zeros where there is no step: ONNX Runtime aborts the process there."""
    H = helper.get_node_attr_value(node, "hidden_size")
    zeros = Writer(f"{write.prefix}/none", write.outer)
    B = zeros.size(node.input[0], 1)
    shape = zeros("Concat", zeros.index(N), B, zeros.index(H), axis=0)
    shapes = [zeros("Concat", zeros.index(0), shape, axis=0), *[shape] * (len(node.output) - 1)]
    made = [zeros("ConstantOfShape", shape) for shape in shapes]

    def graph(nodes, outputs):
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        return helper.make_graph(nodes, node.name, [], infos)

    branches = {
        "then_branch": graph(zeros.nodes, made),
        "else_branch": graph([node], node.output),
    }
    outputs = [write.name("result") for _ in node.output]
    return helper.make_node("If", [none], outputs, outputs[0], **branches)


def _sequences(write: Writer, one: Marked, Y: str, output: str, mask: Mask | None) -> None:
    """Y [T, N, B, H] -> [B, T, N H], each step in its own place."""
    N, H = len(one.operators), one.operators[0].recurrent_kernel.shape[1]
    if mask is None:
        Y = write("Transpose", Y, perm=[2, 0, 1, 3])
    else:
        places = mask.places(write, one)
        Y = write("Gather", write("Reshape", Y, write.index(-1, H)), places, axis=0)
    write("Reshape", Y, write.index(0, 0, N * H), output=output)


def _directions(write: Writer, state: str, outputs: list[str]) -> None:
    """[N, B, H] -> [B, H] for each direction that is asked for."""
    for n, output in enumerate(outputs):
        if output:
            write("Gather", state, write.constant(np.int64(n)), output=output, axis=0)
