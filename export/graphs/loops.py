"""Makes ONNX loops fast: values that no step changes are read from outside, not carried.

tf2onnx carries every tensor that a loop only reads, weights included, from step to step. ONNX
Runtime cannot prepare a carried weight for its matrix products: those of a beam search over one
sentence took four times as long.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def read_from_outside(graph: onnx.GraphProto) -> None:
    """Remove unchanged values from the carried ones of every `Loop` in `graph`, in place."""
    for node in graph.node:
        for body in bodies(node):
            read_from_outside(body)
        if node.op_type == "Loop":
            _release(graph, node)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies of loops and branches inside it."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph and of the bodies inside it."""
    return (node for part in graphs(graph) for node in part.node)


def _release(graph: onnx.GraphProto, loop: onnx.NodeProto) -> None:
    """Let the body of a loop read its unchanged values from outside, by their outer names."""
    (body,) = bodies(loop)
    inner_names = {i.name for i in body.input} | {o for n in body.node for o in n.output}
    identities = {n.output[0]: n.input[0] for n in body.node if n.op_type == "Identity"}
    outside = {}
    # A loop's first two inputs are its limit and its condition; a body's are its step number
    # and the condition, and its first output is the next condition.
    carried = zip(loop.input[2:], body.input[2:], body.output[1:], loop.output, strict=False)
    # Backwards, so that the places still to come stay valid.
    for place, (initial, before, after, result) in reversed(list(enumerate(carried))):
        origin = after.name
        while origin in identities:
            origin = identities[origin]
        # An inner value of the same name would hide the outer one.
        if origin != before.name or initial in inner_names:
            continue
        outside[before.name] = initial
        if result:
            unchanged = onnx.helper.make_node("Identity", [initial], [result])
            graph.node.insert(list(graph.node).index(loop) + 1, unchanged)
        del loop.input[place + 2], body.input[place + 2], body.output[place + 1]
        del loop.output[place]
    rename(body, outside)


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Make every node of `graph`, and of the bodies inside it, read other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for body in bodies(node):
            rename(body, names)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a loop or branch; other nodes have none."""
    return (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
