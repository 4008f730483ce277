"""Adds checks of inputs to ONNX graphs. ONNX has no operator that raises an error of one's own."""

from __future__ import annotations

import numpy as np
import onnx

from kerasrnn.export.graphs.loops import rename


def refuse_empty(model: onnx.ModelProto, name: str, message: str) -> onnx.ModelProto:
    """Let a model refuse an input that has no element; without this some runtimes crash.

    Where there is none, a one is to be reshaped to no element, which fails. The runtime's error
    names the node.

    Args:
        model: changed in place, and returned.
        name: the input.
        message: the name of the node that fails.
    """
    one = onnx.numpy_helper.from_array(np.ones(1, np.int64), f"{name}_one")
    nodes = [
        onnx.helper.make_node("Shape", [name], [f"{name}_shape"]),
        onnx.helper.make_node("ReduceProd", [f"{name}_shape"], [f"{name}_size"]),
        onnx.helper.make_node("Min", [f"{name}_size", one.name], [f"{name}_any"]),
        onnx.helper.make_node(
            "Reshape", [one.name, f"{name}_any"], [f"{name}_all"], name=message, allowzero=1
        ),
        # Everything that reads the input has to wait for the check.
        onnx.helper.make_node("Mul", [f"{name}_shape", f"{name}_all"], [f"{name}_same"]),
        onnx.helper.make_node("Reshape", [name, f"{name}_same"], [f"{name}_checked"]),
    ]
    rename(model.graph, {name: f"{name}_checked"})
    whole = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(whole)
    model.graph.initializer.append(one)
    return model
