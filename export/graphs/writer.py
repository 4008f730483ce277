"""Builds ONNX nodes one after another."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Writer:
    """The nodes that replace one marker; their constants go into the outermost graph."""

    def __init__(self, prefix: str, outer: onnx.GraphProto):
        self.prefix, self.outer, self.nodes, self.count = prefix, outer, [], 0

    def name(self, kind: str) -> str:
        """A new name that ends in `kind` and a number."""
        self.count += 1
        return f"{self.prefix}/{kind}_{self.count}"

    def constant(self, value) -> str:
        """Add a constant and return its name."""
        name = self.name("constant")
        self.outer.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: str, output: str = "", **attributes) -> str:
        """Add a node with one output and return the output's name."""
        output = output or self.name(op)
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def index(self, *numbers: int) -> str:
        """A constant int64 [len(numbers)]."""
        return self.constant(np.array(numbers, "int64"))

    def size(self, tensor: str, axis: int) -> str:
        """The size of an axis: int64 [1]."""
        return self("Shape", tensor, start=axis, end=axis + 1)

    def directions(self, state: str, outputs: list[str]) -> None:
        """Take a state [N, B, H] apart into [B, H] for each direction."""
        for n, output in enumerate(outputs):
            self("Gather", state, self.constant(np.int64(n)), output=output, axis=0)

    def guarded(self, node: onnx.NodeProto, empty: str, batch: str, shapes: list) -> onnx.NodeProto:
        """An `If` around `node`, which is skipped where `empty` is true.

        It then gives float zeros of `shapes`, in which None is the batch. ONNX Runtime aborts the
        process when a recurrence has no step.
        """
        zeros, zero_names = Writer(f"{self.prefix}/empty", self.outer), []
        for shape in shapes:
            sizes = [batch if size is None else zeros.index(size) for size in shape]
            zero_names.append(zeros("ConstantOfShape", zeros("Concat", *sizes, axis=0)))

        def graph(nodes, outputs):
            infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
            return helper.make_graph(nodes, node.name, [], infos)

        branches = {"then_branch": (zeros.nodes, zero_names), "else_branch": ([node], node.output)}
        branches = {name: graph(*branch) for name, branch in branches.items()}
        outputs = [self.name("result") for _ in node.output]
        return helper.make_node("If", [empty], outputs, outputs[0], **branches)
