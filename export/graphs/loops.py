"""Loops as a runtime likes them: what no step changes is read from outside, not carried.

tf2onnx carries every tensor that a loop only reads, weights among them, from step to step. ONNX
Runtime cannot prepare a carried weight for its matrix products: those of a beam search over one
sentence took four times as long.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def read_from_outside(graph: onnx.GraphProto) -> None:
    """Take what stays the same out of the carried values of every `Loop` in `graph`, in place."""
    for node in graph.node:
        for body in bodies(node):
            read_from_outside(body)
        if node.op_type == "Loop":
            _release(graph, node)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its loops and branches."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of the bodies of loops and branches too."""
    return (node for one in graphs(graph) for node in one.node)


def _release(graph: onnx.GraphProto, loop: onnx.NodeProto) -> None:
    (body,) = bodies(loop)
    own = {i.name for i in body.input} | {o for n in body.node for o in n.output}
    same = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
    outside = {}
    carried = zip(loop.input[2:], body.input[2:], body.output[1:], loop.output, strict=False)
    for place, (given, before, after, result) in reversed(list(enumerate(carried))):
        origin = after.name
        while origin in same:
            origin = same[origin]
        if origin != before.name or given in own:
            continue
        outside[before.name] = given
        if result:
            unchanged = onnx.helper.make_node("Identity", [given], [result])
            graph.node.insert(list(graph.node).index(loop) + 1, unchanged)
        del loop.input[place + 2], body.input[place + 2], body.output[place + 1]
        del loop.output[place]
    rename(body, outside)


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Let every node of `graph`, and of the bodies in it, read other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in bodies(node):
            rename(body, names)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a loop or a branch; none of other nodes."""
    return (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
