"""Cuts a graph: what a node computes becomes an input."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from kerasrnn.export.graphs.tidy import prune, read_in


def cut_at(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Let a model take ids int32 [B, T] that it made of text before.

    Args:
        model: changed in place, and returned.
        names: of the ids, tensors of the outermost graph.
    """
    graph, names = model.graph, sorted(names)
    for node in graph.node:
        for i, output in enumerate(node.output):
            if output in names:
                node.output[i] = f"{output}_cut"
    ids = [helper.make_tensor_value_info(name, TensorProto.INT32, ["B", "T"]) for name in names]
    prune(graph)
    read = read_in(graph)
    inputs = [*ids, *(value for value in graph.input if value.name in read)]
    del graph.input[:]
    graph.input.extend(inputs)
    return model
