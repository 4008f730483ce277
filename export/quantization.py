"""Smaller ONNX files: weights as int8 or float16, inside loops too.

int8: a product with a constant matrix [D, N] becomes a product of 8-bit numbers, with one scale for
each of the N outputs; x is rounded at each call. An `LSTM` becomes ONNX Runtime's
`DynamicQuantizeLSTM`. The rows of a table are looked up as int8. The remaining weights are stored
as int8 and turned into float32 when the file is loaded: those of operators without an int8 kernel
in ONNX Runtime (`GRU`, `RNN`) or with a slow one (`Conv`), and small weights. x has one scale for a
whole batch, so the rows of a batch influence each other a little. ONNX Runtime's own
`quantize_dynamic` converts 6 of the 11 products of an exported translator. It misses products with
the blocks into which a loop's body splits a weight, and with a transposed embedding.

fp16: weights are stored as float16 and turned into float32 when the file is loaded. The file has
half the size, and the speed stays the same. On a CPU, ONNX Runtime's `LSTM`, `GRU` and `RNN` take
float32 only. Its own `convert_float_to_float16` also converts the values between operators, and
turns an exported translator into a file that does not load.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import staging
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.loops import bodies, graphs, nodes
from kerasrnn.export.graphs.tidy import prune, read_in
from kerasrnn.export.keras_model import random_cases
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.export.verify import Case, VerificationError, run_fresh, unlike

LEAST = 1024  # smallest weight, in numbers, that is worth converting
PRODUCT = 1 << 16  # smallest matrix, in numbers, whose int8 product is not slower than float32
HIGHEST = 127
# The largest int8 weight in a product. A processor without VNNI adds two products of u8 and s8 in
# 16 bits, and 2 · 255 · 127 does not fit. The smaller range costs 0.0001 nats (2 LSTM layers of
# 384 units).
HALF = 64
MICROSOFT = "com.microsoft"


class _Weights:
    """The float32 weights of a model by name, and the smaller constants that replace them.

    Attributes:
        arrays: the weights with at least two axes and `LEAST` numbers.
        transposed: name of a transpose -> name of its weight.
    """

    def __init__(self, graph: onnx.GraphProto):
        self.graph, self.new_nodes = graph, []
        # A constant that is an input too is only its default: a caller may change it.
        input_names = {part.name for part in graph.input}
        tensors = (
            t for part in graphs(graph) for t in part.initializer if t.name not in input_names
        )
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
        self.arrays = {
            name: array
            for name, array in self.constants.items()
            if array.dtype == np.float32 and array.ndim > 1 and array.size >= LEAST
        }
        self.transposed = {
            node.output[0]: node.input[0]
            for node in nodes(graph)
            if node.op_type == "Transpose" and node.input[0] in self.arrays
            if self.arrays[node.input[0]].ndim == 2
            and list(_attribute(node, "perm", [1, 0])) == [1, 0]
        }

    def add(self, name: str, array: np.ndarray) -> str:
        """Add a constant to the graph, once for each name, and return its name."""
        if name not in self.constants:
            self.constants[name] = array
            self.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(array), name)
            )
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        """Add a node of constants only; it will stand before all other nodes."""
        if all(output not in node.output for node in self.new_nodes):
            self.new_nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def int8(self, name: str, over: tuple[int, ...], highest: int = HALF):
        """A weight as int8, and its scales, one for all numbers along the axes `over`."""
        array = self.arrays[name]
        scale = np.abs(array).max(axis=over, keepdims=True) / highest
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        return np.round(array / scale).astype(np.int8), scale

    def store(self, name: str, kept: int) -> None:
        """Store the weight `name` as int8, to be made float32 when the file is loaded.

        There is one scale for each index of the first `kept` axes.
        """
        small, scale = self.int8(name, tuple(range(kept, self.arrays[name].ndim)), HIGHEST)
        self.add(f"{name}_int8", small)
        self.node("Cast", [f"{name}_int8"], f"{name}_unscaled", to=TensorProto.FLOAT)
        self.node("Mul", [f"{name}_unscaled", self.add(f"{name}_scale", scale)], name)

    def finish(self, replaced: Sequence[str]) -> None:
        """Put the new nodes first, and drop the constants `replaced` and all that nothing reads."""
        _set(self.graph.node, [*self.new_nodes, *self.graph.node])
        for part in reversed([*graphs(self.graph)]):  # bodies before the graphs around them
            prune(part)
        for part in graphs(self.graph):
            read = read_in(part)
            kept = (t for t in part.initializer if t.name in read and t.name not in replaced)
            _set(part.initializer, list(kept))


def _set(field, values: list) -> None:
    """Replace the content of a repeated protobuf field."""
    # Copies: `values` may be messages of the field itself, which `del` ends.
    values = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(values)


def _attribute(node: onnx.NodeProto, name: str, default):
    """The value of a node's attribute, or `default`."""
    values = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return values[0] if values else default


def _split(node, weights: _Weights, rounded: dict) -> list | None:
    """Split a weight now into the blocks of the `Split` node, each a weight of its own."""
    array = weights.arrays.get(node.input[0])
    if array is None:
        return None
    axis, count = _attribute(node, "axis", 0), len(node.output)
    sizes = weights.constants.get(node.input[1]) if len(node.input) > 1 else None
    if sizes is None and (len(node.input) > 1 or array.shape[axis] % count):
        return None
    sections = count if sizes is None else np.cumsum(sizes)[:-1]
    for name, block in zip(node.output, np.split(array, sections, axis), strict=True):
        weights.arrays[weights.add(name, block)] = block
    return []


def _product(node, weights: _Weights, rounded: dict) -> list | None:
    """A rounded x @ w: x as u8 with one scale, w as s8 with one scale for each column."""
    x, name = node.input
    transposed = weights.transposed.get(name)
    weight = transposed or name
    matrix = weights.arrays.get(weight)
    if matrix is None or matrix.ndim != 2 or matrix.size < PRODUCT:
        return None
    small, scale = weights.int8(weight, (1,) if transposed else (0,))
    key = f"{weight}_{'rows' if transposed else 'columns'}"
    name = weights.add(f"{key}_int8", small)
    name = weights.node("Transpose", [name], f"{key}_turned") if transposed else name
    new_nodes = []
    # Products of the same x share its rounding.
    if x not in rounded:
        rounded[x] = [f"{node.output[0]}_x_{part}" for part in ("u8", "scale", "zero")]
        new_nodes.append(helper.make_node("DynamicQuantizeLinear", [x], rounded[x]))
    inputs = [rounded[x][0], name, rounded[x][1], weights.add(f"{key}_scale", scale.ravel())]
    inputs.append(rounded[x][2])
    multiply = helper.make_node("MatMulIntegerToFloat", inputs, node.output, domain=MICROSOFT)
    return [*new_nodes, multiply]


def _look_up(node, weights: _Weights, rounded: dict) -> list | None:
    """Look up rows of an int8 table; each row has its own scale."""
    name, ids = node.input
    array = weights.arrays.get(name)
    if array is None or array.ndim != 2 or _attribute(node, "axis", 0) != 0:
        return None
    small, scale = weights.int8(name, (1,))
    table = weights.add(f"{name}_rows_int8", small)
    scales, out = weights.add(f"{name}_rows_scales", scale), node.output[0]
    return [
        helper.make_node("Gather", [table, ids], [f"{out}_int8"]),
        helper.make_node("Cast", [f"{out}_int8"], [f"{out}_unscaled"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, ids], [f"{out}_scales"]),
        helper.make_node("Mul", [f"{out}_unscaled", f"{out}_scales"], [out]),
    ]


def _lstm(node, weights: _Weights, rounded: dict) -> list | None:
    """A `DynamicQuantizeLSTM` node.

    It takes W [directions, 4 H, D] and R [directions, 4 H, H] with the last two axes swapped.
    """
    inputs = [*node.input, *[""] * (8 - len(node.input))]
    if not all(name in weights.arrays for name in inputs[1:3]):
        return None
    if weights.arrays[inputs[2]].size < PRODUCT:
        return None
    scales = []
    for place in (1, 2):
        name = inputs[place]
        small, scale = weights.int8(name, (2,))
        inputs[place] = weights.add(f"{name}_turned_int8", small.transpose(0, 2, 1))
        scales.append(weights.add(f"{name}_turned_scale", scale[:, :, 0]))
        zero = np.zeros(scale.shape[:2], np.int8)
        scales.append(weights.add(f"{name}_turned_zero", zero))
    quantized = helper.make_node(
        "DynamicQuantizeLSTM", [*inputs, *scales], node.output, domain=MICROSOFT
    )
    quantized.attribute.extend(node.attribute)
    return [quantized]


REWRITES = {"MatMul": _product, "Gather": _look_up, "LSTM": _lstm}
KEPT = {"LSTM": 2, "GRU": 2, "RNN": 2}  # leading axes with separate scales; 1 for other operators


def _rewrite(graph: onnx.GraphProto, weights: _Weights, rewrites: dict, rounded: dict) -> None:
    """Rewrite the nodes of a graph and its bodies; `rounded` maps an x to its rounded form."""
    rewritten = []
    for node in graph.node:
        for body in bodies(node):
            # A copy of `rounded`: names made in a body are unknown outside.
            _rewrite(body, weights, rewrites, dict(rounded))
        rewrite = rewrites.get(node.op_type)
        new = rewrite(node, weights, rounded) if rewrite else None
        rewritten += [node] if new is None else new
    _set(graph.node, rewritten)


def _int8(model: onnx.ModelProto) -> None:
    """Turn the weights of a model into int8, in place."""
    weights = _Weights(model.graph)
    # Splits come first: their blocks are the weights of products.
    for rewrites in ({"Split": _split}, REWRITES):
        _rewrite(model.graph, weights, rewrites, {})
    weights.finish([])
    # The float32 weights that are still read have no int8 operator: only their storage shrinks.
    weights = _Weights(model.graph)
    readers = {name: node.op_type for node in nodes(model.graph) for name in node.input}
    for name in weights.arrays:
        weights.store(name, KEPT.get(readers.get(name), 1))
    weights.finish(list(weights.arrays))
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _fp16(model: onnx.ModelProto) -> None:
    """Store the weights of a model as float16, in place, except those that overflow."""
    weights = _Weights(model.graph)
    largest = np.finfo(np.float16).max
    fits = {name: a for name, a in weights.arrays.items() if np.abs(a).max() <= largest}
    for name, array in fits.items():
        weights.add(f"{name}_fp16", array.astype(np.float16))
        weights.node("Cast", [f"{name}_fp16"], name, to=TensorProto.FLOAT)
    weights.finish(list(fits))


KINDS = {"int8": _int8, "fp16": _fp16}


def smaller(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """A copy of the model with smaller weights.

    Raises:
        InputError: when `kind` is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise InputError("kind", f"one of {', '.join(KINDS)}", kind, "choose one of them")
    small = onnx.ModelProto()
    small.CopyFrom(model)
    KINDS[kind](small)
    return small


def quantize(path: str | Path, out: str | Path, kind: str, cases: list[Case] | None = None) -> Path:
    """Write a smaller version of an ONNX file; it runs in a fresh process before it appears.

    Args:
        path: an ONNX file, written by `kerasrnn` or another program.
        out: the file to write; an existing one is replaced.
        kind: "int8" or "fp16".
        cases: inputs by name, on which both files are run. By default, random numbers for files of
            `kerasrnn.export.onnx`; other files are only loaded.

    Returns:
        `out`.

    Raises:
        InputError: when a path is unusable, or `kind` is unknown.
        VerificationError: when the file does not run, or its outputs have other names, dtypes or
            ranks.
    """
    path, out = Path(path), Path(out)
    try:
        check_artifact(path, "path")
        model = onnx.load(path)
    except InputError:
        raise
    except (OSError, DecodeError) as error:
        raise InputError("path", "an ONNX file", f"{path} ({error})", "check the path") from error
    small = smaller(model, kind)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if cases is None:
        cases = random_cases(model) if metadata.get("task") == "keras model" else []
    with staging(out, "out") as folder:
        onnx_file.write(small, folder / out.name, {**metadata, "quantized": kind})
        answers = [run_fresh(file, cases) for file in (path, folder / out.name)]
        differences = [
            line for full, got in zip(*answers, strict=True) for line in unlike(full, got)
        ]
        if differences:
            raise VerificationError(f"{out.name}: {'; '.join(sorted(set(differences)))}")
        onnx_file.place(folder / out.name, out)
    return out
