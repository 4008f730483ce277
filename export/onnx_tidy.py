"""ONNX graphs without what nobody reads, and with each constant once."""

from __future__ import annotations

import hashlib

import onnx
from onnx import helper, numpy_helper

from kerasrnn.export.onnx_loops import bodies, nodes, rename

LARGE = 1024  # numbers of a matrix


def prune(graph: onnx.GraphProto) -> None:
    """Remove the nodes of a graph of whose outputs none is read."""
    read, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if read & {*node.output}:
            kept.append(node)
            read.update(node.input)
            read.update(*map(read_in, bodies(node)))
    del graph.node[:]
    graph.node.extend(reversed(kept))


def read_in(graph: onnx.GraphProto) -> set[str]:
    """What the nodes of a graph, those inside others too, and its outputs read."""
    return {i for node in nodes(graph) for i in node.input} | {o.name for o in graph.output}


def share(graph: onnx.GraphProto) -> None:
    """Keep one of several equal constants, in the outermost graph, and none that nobody reads.

    Of a matrix that is there transposed too, as an embedding that is the readout as well, one
    stays; the other is made of it when a runtime loads the file.
    """
    _move(graph, graph, {})
    _transpose(graph)
    read = read_in(graph)
    for i, tensor in reversed(list(enumerate(graph.initializer))):
        if tensor.name not in read:
            del graph.initializer[i]


def _move(graph: onnx.GraphProto, outer: onnx.GraphProto, known: dict[tuple, str]) -> None:
    """Let a graph, and those inside, read the constants of `outer`, each by its first name."""
    given, names = {output.name for output in graph.output}, {}
    for i, tensor in reversed(list(enumerate(graph.initializer))):
        if tensor.name in given:
            continue
        content = _content(tensor)
        if content not in known:
            known[content] = tensor.name if graph is outer else f"constant_{len(known)}"
            if graph is not outer:
                outer.initializer.add().CopyFrom(tensor)
                outer.initializer[-1].name = known[content]
        names[tensor.name] = known[content]
        if graph is not outer or names[tensor.name] != tensor.name:
            del graph.initializer[i]
    rename(graph, names)
    for node in graph.node:
        for body in bodies(node):
            _move(body, outer, known)


def _content(tensor: onnx.TensorProto) -> tuple:
    array = numpy_helper.to_array(tensor)
    held = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return tensor.data_type, array.shape, hashlib.sha256(held).digest()


def _transpose(graph: onnx.GraphProto) -> None:
    """Read large matrices that are another's transpose through a `Transpose`."""
    known, made = {}, []
    for i, tensor in reversed(list(enumerate(graph.initializer))):
        if len(tensor.dims) != 2 or tensor.dims[0] * tensor.dims[1] < LARGE:
            continue
        turned = numpy_helper.from_array(numpy_helper.to_array(tensor).T)
        other = known.get(_content(turned))
        if other is None:
            known[_content(tensor)] = tensor.name
            continue
        made.append(helper.make_node("Transpose", [other], [tensor.name], tensor.name, perm=[1, 0]))
        del graph.initializer[i]
    for node in made:
        graph.node.insert(0, node)
