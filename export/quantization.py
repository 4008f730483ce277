"""Smaller ONNX files: weights as int8 or float16, those that loops read too.

int8: a product with a constant matrix [D, N] becomes one of 8-bit numbers with a scale for each of
the N outputs, x being rounded at each call; an `LSTM` becomes ONNX Runtime's `DynamicQuantizeLSTM`;
the rows of a table are looked up as int8. What ONNX Runtime has no int8 kernel for (`GRU`, `RNN`),
or a slow one (`Conv`), and what is small, is stored as int8 and made float32 when the file is
loaded. x has one scale for a whole batch, so that the rows of a batch touch each other a little.
ONNX Runtime's own `quantize_dynamic` finds 6 of the 11 products of an exported translator: not
those with blocks that a loop's body splits a weight into, nor with a transposed embedding.

fp16: weights are stored as float16 and made float32 when the file is loaded: half the file, the
same speed. ONNX Runtime's `LSTM`, `GRU` and `RNN` take float32 alone on a CPU. Its own
`convert_float_to_float16` also turns what is between, and of an exported translator makes a file
that does not load.
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

LEAST = 1024  # numbers in a weight that is worth storing otherwise
PRODUCT = 1 << 16  # in a matrix with which an int8 product is no slower than a float32 one
HIGHEST = 127
# Of what is multiplied as it is: without VNNI a processor adds two products of u8 and s8 in 16
# bits, where 255 · 127 twice does not fit. It costs 0.0001 nats (2 LSTM layers of 384).
HALF = 64
MICROSOFT = "com.microsoft"


class _Weights:
    """The float32 weights of a model, by name, and the small ones that take their places.

    Attributes:
        arrays: those of at least two axes and `LEAST` numbers.
        turned: name of a transpose -> name of the weight.
    """

    def __init__(self, graph: onnx.GraphProto):
        self.graph, self.first = graph, []
        given = {one.name for one in graph.input}
        held = (t for one in graphs(graph) for t in one.initializer if t.name not in given)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in held}
        self.arrays = {
            name: array
            for name, array in self.constants.items()
            if array.dtype == np.float32 and array.ndim > 1 and array.size >= LEAST
        }
        self.turned = {
            node.output[0]: node.input[0]
            for node in nodes(graph)
            if node.op_type == "Transpose" and node.input[0] in self.arrays
            if self.arrays[node.input[0]].ndim == 2
            and list(_attribute(node, "perm", [1, 0])) == [1, 0]
        }

    def add(self, name: str, array: np.ndarray) -> str:
        """A new constant."""
        if name not in self.constants:
            self.constants[name] = array
            self.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(array), name)
            )
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        """A new node before all others, of constants only."""
        if all(output not in node.output for node in self.first):
            self.first.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def int8(self, name: str, over: tuple[int, ...], highest: int = HALF):
        """A weight as int8, and its scale, one for all numbers along the axes `over`."""
        array = self.arrays[name]
        scale = np.abs(array).max(axis=over, keepdims=True) / highest
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        return np.round(array / scale).astype(np.int8), scale

    def store(self, name: str, kept: int) -> None:
        """Make the weight `name` of int8 when the file is loaded, a scale for each place of its
        first axes."""
        small, scale = self.int8(name, tuple(range(kept, self.arrays[name].ndim)), HIGHEST)
        self.add(f"{name}_int8", small)
        self.node("Cast", [f"{name}_int8"], f"{name}_unscaled", to=TensorProto.FLOAT)
        self.node("Mul", [f"{name}_unscaled", self.add(f"{name}_scale", scale)], name)

    def finish(self, replaced: Sequence[str]) -> None:
        """Put new nodes first and drop the constants `replaced` and whatever nothing reads."""
        _set(self.graph.node, [*self.first, *self.graph.node])
        for one in reversed([*graphs(self.graph)]):  # bodies before what is around them
            prune(one)
        for one in graphs(self.graph):
            read = read_in(one)
            kept = (t for t in one.initializer if t.name in read and t.name not in replaced)
            _set(one.initializer, list(kept))


def _set(field, values: list) -> None:
    values = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(values)


def _attribute(node: onnx.NodeProto, name: str, default):
    found = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    return found[0] if found else default


def _split(node, weights: _Weights, rounded: dict) -> list | None:
    """The blocks of a weight, which are weights of their own."""
    array = weights.arrays.get(node.input[0])
    if array is None:
        return None
    axis, count = _attribute(node, "axis", 0), len(node.output)
    sizes = weights.constants.get(node.input[1]) if len(node.input) > 1 else None
    if sizes is None and (len(node.input) > 1 or array.shape[axis] % count):
        return None
    places = count if sizes is None else np.cumsum(sizes)[:-1]
    for name, block in zip(node.output, np.split(array, places, axis), strict=True):
        weights.arrays[weights.add(name, block)] = block
    return []


def _product(node, weights: _Weights, rounded: dict) -> list | None:
    """x @ w, rounded: x to u8 with a scale for all of it, w to s8 with a scale for each column."""
    x, name = node.input
    turned = weights.turned.get(name)
    own = turned or name
    matrix = weights.arrays.get(own)
    if matrix is None or matrix.ndim != 2 or matrix.size < PRODUCT:
        return None
    small, scale = weights.int8(own, (1,) if turned else (0,))
    key = f"{own}_{'rows' if turned else 'columns'}"
    name = weights.add(f"{key}_int8", small)
    name = weights.node("Transpose", [name], f"{key}_turned") if turned else name
    found = []
    if x not in rounded:
        rounded[x] = [f"{node.output[0]}_x_{part}" for part in ("u8", "scale", "zero")]
        found.append(helper.make_node("DynamicQuantizeLinear", [x], rounded[x]))
    inputs = [rounded[x][0], name, rounded[x][1], weights.add(f"{key}_scale", scale.ravel())]
    inputs.append(rounded[x][2])
    multiply = helper.make_node("MatMulIntegerToFloat", inputs, node.output, domain=MICROSOFT)
    return [*found, multiply]


def _look_up(node, weights: _Weights, rounded: dict) -> list | None:
    """Rows of a table, each with a scale of its own."""
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
    """W [directions, 4 H, D] and R [directions, 4 H, H]; the int8 operator wants them turned."""
    given = [*node.input, *[""] * (8 - len(node.input))]
    if not all(name in weights.arrays for name in given[1:3]):
        return None
    if weights.arrays[given[2]].size < PRODUCT:
        return None
    scales = []
    for place in (1, 2):
        name = given[place]
        small, scale = weights.int8(name, (2,))
        given[place] = weights.add(f"{name}_turned_int8", small.transpose(0, 2, 1))
        scales.append(weights.add(f"{name}_turned_scale", scale[:, :, 0]))
        zero = np.zeros(scale.shape[:2], np.int8)
        scales.append(weights.add(f"{name}_turned_zero", zero))
    made = helper.make_node("DynamicQuantizeLSTM", [*given, *scales], node.output, domain=MICROSOFT)
    made.attribute.extend(node.attribute)
    return [made]


REWRITES = {"MatMul": _product, "Gather": _look_up, "LSTM": _lstm}
KEPT = {"LSTM": 2, "GRU": 2, "RNN": 2}  # leading axes with scales of their own; else 1


def _rewrite(graph: onnx.GraphProto, weights: _Weights, rewrites: dict, rounded: dict) -> None:
    """Rewrite the nodes of a graph; `rounded` has what was rounded before, by name."""
    found = []
    for node in graph.node:
        for body in bodies(node):
            _rewrite(body, weights, rewrites, dict(rounded))
        rewrite = rewrites.get(node.op_type)
        new = rewrite(node, weights, rounded) if rewrite else None
        found += [node] if new is None else new
    _set(graph.node, found)


def _int8(model: onnx.ModelProto) -> None:
    weights = _Weights(model.graph)
    for rewrites in ({"Split": _split}, REWRITES):
        _rewrite(model.graph, weights, rewrites, {})
    weights.finish([])
    weights = _Weights(model.graph)
    readers = {name: node.op_type for node in nodes(model.graph) for name in node.input}
    for name in weights.arrays:
        weights.store(name, KEPT.get(readers.get(name), 1))
    weights.finish(list(weights.arrays))
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _fp16(model: onnx.ModelProto) -> None:
    weights = _Weights(model.graph)
    most = np.finfo(np.float16).max
    fits = {name: a for name, a in weights.arrays.items() if np.abs(a).max() <= most}
    for name, array in fits.items():
        weights.add(f"{name}_fp16", array.astype(np.float16))
        weights.node("Cast", [f"{name}_fp16"], name, to=TensorProto.FLOAT)
    weights.finish(list(fits))


KINDS = {"int8": _int8, "fp16": _fp16}


def smaller(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """The same model with smaller weights; the one given stays as it is.

    Raises:
        InputError: when there is no such kind.
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
        path: a file that `kerasrnn` or another program wrote.
        out: the file to write; one that is there is replaced.
        kind: "int8" or "fp16".
        cases: what both files are run on, by the inputs' names. By default, random numbers for
            what `kerasrnn.export.onnx` wrote; other files are only loaded.

    Returns:
        `out`.

    Raises:
        InputError: when a path or the kind cannot be used.
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
    said = {entry.key: entry.value for entry in model.metadata_props}
    if cases is None:
        cases = random_cases(model) if said.get("task") == "keras model" else []
    with staging(out, "out") as folder:
        onnx_file.write(small, folder / out.name, {**said, "quantized": kind})
        both = [run_fresh(file, cases) for file in (path, folder / out.name)]
        found = [line for full, got in zip(*both, strict=True) for line in unlike(full, got)]
        if found:
            raise VerificationError(f"{out.name}: {'; '.join(sorted(set(found)))}")
        onnx_file.place(folder / out.name, out)
    return out
