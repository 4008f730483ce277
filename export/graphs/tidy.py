"""Simplifies ONNX graphs: removes what nothing reads, and stores each constant once."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kerasrnn.export.graphs.loops import bodies, nodes, rename

LARGE = 1024  # smallest matrix, in numbers, that is compared with transposes


def prune(graph: onnx.GraphProto) -> None:
    """Remove the nodes whose outputs nothing reads, in place."""
    read, kept = {output.name for output in graph.output}, []
    # Backwards: a node comes after the nodes that it reads.
    for node in reversed(graph.node):
        if read & {*node.output}:
            kept.append(node)
            read.update(node.input)
            read.update(*map(read_in, bodies(node)))
    del graph.node[:]
    graph.node.extend(reversed(kept))


def read_in(graph: onnx.GraphProto) -> set[str]:
    """The names that a graph's nodes, including those in bodies, and its outputs read."""
    return {i for node in nodes(graph) for i in node.input} | {o.name for o in graph.output}


def share(graph: onnx.GraphProto) -> None:
    """Keep one of several equal constants, in the outermost graph, and drop unread ones.

    A large matrix that is the transpose of another, such as an embedding that is also the readout,
    is dropped too; a runtime computes it from the other one when it loads the file.
    """
    constants = [(owner, tensor.name, _content(tensor)) for owner, tensor in _constants(graph)]
    counts, shared, names = Counter(content for *_, content in constants), {}, defaultdict(dict)
    for owner, name, content in constants:
        # A constant that occurs once stays in its loop's body, where ONNX Runtime prepares it.
        if counts[content] > 1:
            if content not in shared:
                shared[content] = name if owner is graph else _copy_out(graph, owner, name)
            names[id(owner)][name] = shared[content]
    for owner in {id(owner): owner for owner, *_ in constants}.values():
        rename(owner, names[id(owner)])
    _transpose(graph)
    for owner in {id(owner): owner for owner, *_ in constants}.values():
        read = read_in(owner)
        for i, tensor in reversed(list(enumerate(owner.initializer))):
            if tensor.name not in read:
                del owner.initializer[i]


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[onnx.GraphProto, onnx.TensorProto]]:
    """Every constant that is not an output, with the graph that holds it."""
    output_names = {output.name for output in graph.output}
    yield from ((graph, tensor) for tensor in graph.initializer if tensor.name not in output_names)
    for node in graph.node:
        for body in bodies(node):
            yield from _constants(body)


def _copy_out(outer: onnx.GraphProto, owner: onnx.GraphProto, name: str) -> str:
    """Copy a constant of `owner` to `outer`, and return its new name."""
    new = f"shared_{len(outer.initializer)}"
    outer.initializer.add().CopyFrom(next(t for t in owner.initializer if t.name == name))
    outer.initializer[-1].name = new
    return new


def _content(tensor: onnx.TensorProto) -> tuple:
    """A key that equal constants share."""
    array = numpy_helper.to_array(tensor)
    return tensor.data_type, array.shape, _digest(array)


def _digest(array: np.ndarray) -> bytes:
    """SHA-256 of the values; of strings, which NumPy holds as objects, that of their text."""
    if array.dtype == object:
        return hashlib.sha256(repr(array.tolist()).encode()).digest()
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).digest()


def _transpose(graph: onnx.GraphProto) -> None:
    """Replace a large matrix that is another's transpose by a `Transpose` node."""
    names, transposes = {}, []
    shapes = {tuple(tensor.dims) for tensor in graph.initializer}
    for i, tensor in reversed(list(enumerate(graph.initializer))):
        shape = tuple(tensor.dims)
        if len(shape) != 2 or math.prod(shape) < LARGE or shape[::-1] not in shapes:
            continue
        array = numpy_helper.to_array(tensor)
        original = names.get((shape, _digest(array)))
        if original is None:
            # The key of a later matrix that is this one transposed.
            names[shape[::-1], _digest(array.T)] = tensor.name
            continue
        transposes.append(
            helper.make_node("Transpose", [original], [tensor.name], tensor.name, perm=[1, 0])
        )
        del graph.initializer[i]
    for node in transposes:
        graph.node.insert(0, node)
