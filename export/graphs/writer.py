"""ONNX nodes, written one after the other."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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

    def directions(self, state: str, outputs: list[str]) -> None:
        """[N, B, H] -> [B, H] for each direction."""
        for n, output in enumerate(outputs):
            self("Gather", state, self.constant(np.int64(n)), output=output, axis=0)

    def guarded(self, node: onnx.NodeProto, empty: str, batch: str, shapes: list) -> onnx.NodeProto:
        """`node`, or float zeros of `shapes` (None: the batch) where `empty` is true.

        ONNX Runtime aborts the process where a recurrence has no step.
        """
        zeros, made = Writer(f"{self.prefix}/empty", self.outer), []
        for shape in shapes:
            sizes = [batch if size is None else zeros.index(size) for size in shape]
            made.append(zeros("ConstantOfShape", zeros("Concat", *sizes, axis=0)))

        def graph(nodes, outputs):
            infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
            return helper.make_graph(nodes, node.name, [], infos)

        branches = {"then_branch": (zeros.nodes, made), "else_branch": ([node], node.output)}
        branches = {name: graph(*branch) for name, branch in branches.items()}
        outputs = [self.name("result") for _ in node.output]
        return helper.make_node("If", [empty], outputs, outputs[0], **branches)
