"""ONNX graphs without what nobody reads, and with each constant once."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kerasrnn.export.graphs.loops import bodies, nodes, rename

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
    found = [(owner, tensor.name, _content(tensor)) for owner, tensor in _constants(graph)]
    counts, known, names = Counter(content for *_, content in found), {}, defaultdict(dict)
    for owner, name, content in found:
        # One of its own stays in a loop's body: ONNX Runtime prepares what is near.
        if counts[content] > 1:
            if content not in known:
                known[content] = name if owner is graph else _moved(graph, owner, name)
            names[id(owner)][name] = known[content]
    for owner in {id(owner): owner for owner, *_ in found}.values():
        rename(owner, names[id(owner)])
    _transpose(graph)
    for owner in {id(owner): owner for owner, *_ in found}.values():
        read = read_in(owner)
        for i, tensor in reversed(list(enumerate(owner.initializer))):
            if tensor.name not in read:
                del owner.initializer[i]


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.TensorProto]]:
    """Every constant but those that are outputs, with the graph that holds it."""
    given = {output.name for output in graph.output}
    yield from ((graph, tensor) for tensor in graph.initializer if tensor.name not in given)
    for node in graph.node:
        for body in bodies(node):
            yield from _constants(body)


def _moved(outer: onnx.GraphProto, owner: onnx.GraphProto, name: str) -> str:
    """The new name of a constant of `owner` that `outer` now has too."""
    new = f"shared_{len(outer.initializer)}"
    outer.initializer.add().CopyFrom(next(t for t in owner.initializer if t.name == name))
    outer.initializer[-1].name = new
    return new


def _content(tensor: onnx.TensorProto) -> tuple:
    array = numpy_helper.to_array(tensor)
    return tensor.data_type, array.shape, _digest(array)


def _digest(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return hashlib.sha256(repr(array.tolist()).encode()).digest()
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).digest()


def _transpose(graph: onnx.GraphProto) -> None:
    """Read large matrices that are another's transpose through a `Transpose`."""
    known, made = {}, []
    shapes = {tuple(tensor.dims) for tensor in graph.initializer}
    for i, tensor in reversed(list(enumerate(graph.initializer))):
        shape = tuple(tensor.dims)
        if len(shape) != 2 or math.prod(shape) < LARGE or shape[::-1] not in shapes:
            continue
        array = numpy_helper.to_array(tensor)
        other = known.get((shape, _digest(array)))
        if other is None:
            known[shape[::-1], _digest(array.T)] = tensor.name
            continue
        made.append(helper.make_node("Transpose", [other], [tensor.name], tensor.name, perm=[1, 0]))
        del graph.initializer[i]
    for node in made:
        graph.node.insert(0, node)
