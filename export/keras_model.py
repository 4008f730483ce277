"""Any Keras model -> one ONNX file, its recurrent layers as ONNX's own operators, checked."""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
import onnx as onnx_proto
import tensorflow as tf
from keras import tree

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.base.files import staging
from kerasrnn.compat.keras import get_input_signature, is_graph, layers_of, output_names
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.lowering import Lowering
from kerasrnn.export.graphs.text import OPSET
from kerasrnn.export.verify import TOLERANCE, Case, verify
from kerasrnn.layers.adoption import Adoption, adopt, described, recurrences
from kerasrnn.layers.recurrent import Recurrent

LARGE = 2**20  # bytes of a weight
HALF = 1e-2  # of outputs in float16, relative where they are above 1
SIZES = ((3, 24), (1, 16))  # of the batch and of every other open dimension, where it is tried


def onnx(model: keras.Model, path: str | Path, cases: list[Case] | None = None) -> Adoption:
    """Write a built Keras model as ONNX: `LSTM`, `GRU` and `Scan` nodes instead of loops.

    Stock recurrent layers are moved onto the engine first (`kerasrnn.adopt`); the model given
    stays as it is. Inputs and outputs have the model's own names; what is None in their shapes,
    the batch among them, stays open. What stateful layers keep between calls, the caller of the
    file carries: inputs `<layer>_state_0` … and, behind the model's outputs,
    `<layer>_next_state_0` …. The file is run in a fresh process before it appears.

    Args:
        model: a Sequential, functional or subclassed model; the last has to have been called, and
            takes float32 of the sizes it was called with, but for the batch.
        path: the file to write; one that is there is replaced. Constants above 2 GB stand
            beside it, in `path` + ".data".
        cases: what it is tried on, by the inputs' names; by default random numbers of two sizes,
            zeros and ones for integers, with zeros at the end of a sequence.

    Returns:
        Which layers were moved, which were on the engine already, which were left and why, and
        the ONNX operator that each became.

    Raises:
        InputError: when the model is no built Keras model, when ONNX cannot express a part of it,
            or when `path` cannot be written.
        VerificationError: when the file does not do what the model does.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="reader")])
    >>> print(onnx(model, Path(tempfile.mkdtemp(), "m.onnx")))
    replaced reader: LSTM by Recurrent(LSTM), in ONNX LSTM
    """
    path, given = Path(path), _signature(model)
    if path.is_dir():
        raise InputError("path", "a file to write", f"{path}, a folder", "add m.onnx to it")
    traced, adoption = _moved(model)
    kept = _kept(model)
    specs = _specs(given, kept)
    cases = cases or [random_case(specs, *sizes) for sizes in SIZES]
    found = [_answer(model, given, [tf.constant(case[s.name]) for s in specs]) for case in cases]
    taken = [spec.name for spec in specs]
    names = _output_names(model, len(found[0]) - len(kept), taken)
    names += [name.replace("_state_", "_next_state_") for name in kept]
    large = _large(traced)
    inputs = specs + [tf.TensorSpec(v.shape, v.dtype, name) for name, v in large.items()]
    values = {name: keras.ops.convert_to_numpy(variable) for name, variable in large.items()}
    lowering = Lowering()

    def answer(*inputs):
        return _answer(traced, given, inputs, large.values())

    try:
        proto = onnx_file.convert(answer, inputs, names, values, lowering)
    except (ValueError, NotImplementedError) as error:
        received = first_line(error)
        raise InputError("model", "parts that ONNX has", received, "leave them outside") from error
    metadata = {"task": "keras model", "opset": str(OPSET), "keras": keras.__version__}
    with staging(path, "path") as folder:
        onnx_file.write(proto, folder / path.name, metadata)
        expected = [dict(zip(names, map(np.asarray, f), strict=True)) for f in found]
        verify(folder / path.name, cases, expected, _tolerance(model))
        onnx_file.place(folder / path.name, path)
    adoption.nodes = _nodes(traced, lowering)
    return adoption


def _nodes(model, lowering: Lowering) -> dict[str, str]:
    """By layer name, the operator that each recurrence of ours became."""
    found = {}
    for layer in recurrences(model):
        one = getattr(layer, "forward_layer", layer)
        if id(one.cell) in lowering.nodes:
            found[layer.name] = lowering.nodes[id(one.cell)]
    return found


def _signature(model):
    """The model's arguments, an `InputSpec` in the place of each tensor."""
    name = type(model).__name__
    if not isinstance(model, keras.Model):
        raise InputError("model", "a keras.Model", name, "put layers into a Sequential")
    try:
        return get_input_signature(model)
    except ValueError as error:
        received = f"{name}, not built or never called"
        raise InputError("model", "a built keras.Model", received, "call it once") from error


def _specs(given, kept) -> list[tf.TensorSpec]:
    """The inputs of the file: the model's own, then the states, of which the batch is fixed."""
    batch = [state.shape[0] for state in kept.values()][:1] or [None]
    own = [
        tf.TensorSpec([*batch, *spec.shape[1:]], spec.dtype, spec.name or f"input_{i}")
        for i, spec in enumerate(tree.flatten(given))
    ]
    return own + [tf.TensorSpec(state.shape, state.dtype, name) for name, state in kept.items()]


def _answer(model, given, inputs, weights=()) -> tuple:
    """The model's outputs and its new states; it keeps none of them itself.

    Args:
        inputs: the model's own, its states, and what stands for `weights`.
    """
    count, states = len(tree.flatten(given)), list(_kept(model).values())
    arguments = tree.pack_sequence_as(given, list(inputs[:count]))
    with keras.StatelessScope(list(zip([*states, *weights], inputs[count:], strict=True))) as scope:
        found = tree.flatten(model(*arguments, training=False))
    return (*found, *map(scope.get_current_value, states))


def _kept(model) -> dict[str, keras.Variable]:
    """What stateful recurrent layers keep between calls, by its name as an input."""
    found = {}
    for layer in layers_of(model):
        if isinstance(layer, Recurrent | keras.layers.RNN) and layer.stateful:
            states = layer.kept_states if isinstance(layer, Recurrent) else layer.states
            found.update({f"{layer.name}_state_{i}": s for i, s in enumerate(tree.flatten(states))})
    return found


def _large(model) -> dict[str, keras.Variable]:
    """The large weights of a model that is larger than what can be converted whole."""
    weights = [v for v in model.variables if v.dtype == "float32"]
    sizes = [4 * math.prod(v.shape) for v in weights]
    if sum(sizes) <= onnx_file.LARGEST:
        return {}
    pairs = zip(weights, sizes, strict=True)
    return {f"weight_{i}": v for i, (v, size) in enumerate(pairs) if size >= LARGE}


def _moved(model) -> tuple[keras.Model, Adoption]:
    """The model on the engine where its layers can be walked, and what became of them."""
    if is_graph(model):
        moved = adopt(model, copy=False)  # it is only read
        return moved, moved.adoption
    stock = (keras.layers.RNN, keras.layers.Bidirectional)
    inside = [one.name for one in layers_of(model) if isinstance(one, stock)]
    already = [(one.name, described(one)) for one in recurrences(model)]
    left = [(name, "inside a subclassed model") for name in inside]
    return model, Adoption(already=already, left=left)


def _tolerance(model) -> float:
    """Of the outputs: more where layers compute in half precision."""
    kinds = {one.compute_dtype for one in layers_of(model)}
    return HALF if kinds & {"float16", "bfloat16"} else TOLERANCE


def _output_names(model, count: int, taken: list[str]) -> list[str]:
    """Keras's names of the outputs, each once."""
    names = output_names(model) or [f"output_{i}" for i in range(count)]
    found = []
    for name in names:
        number, free = 1, name
        while free in (*taken, *found):
            number, free = number + 1, f"{name}_{number}"
        found.append(free)
    return found


def random_case(specs, batch: int, other: int) -> Case:
    """Random numbers; the last sequence of a batch ends in zeros, which are what masks hide."""
    random, case = np.random.default_rng(batch), {}
    for spec in specs:
        shape = [spec.shape[0] or batch, *(size or other for size in spec.shape[1:])]
        if spec.dtype == tf.string:
            value = random.choice(["a", "b"], shape).astype(object)
        elif spec.dtype.is_floating:
            value = random.normal(size=shape)
        else:
            value = random.integers(0, 2, shape)
        if len(shape) > 1 and spec.dtype != tf.string:
            value[-1, shape[1] // 2 :] = 0
        case[spec.name] = value.astype(spec.dtype.as_numpy_dtype)
    return case


def random_cases(model: onnx_proto.ModelProto) -> list[Case]:
    """What a file is tried on, by what it says of its inputs."""
    specs = []
    for given in model.graph.input:
        kind = given.type.tensor_type
        dtype = tf.as_dtype(onnx_proto.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        shape = [size.dim_value or None for size in kind.shape.dim]
        specs.append(tf.TensorSpec(shape, dtype, given.name))
    return [random_case(specs, *sizes) for sizes in SIZES]
