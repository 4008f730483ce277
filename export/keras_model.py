"""Writes any Keras model as one checked ONNX file.

Its recurrent layers become ONNX's own operators.
"""

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
from kerasrnn.layers.adoption import Adoption, adopt, description, recurrences
from kerasrnn.layers.recurrent import Recurrent

LARGE = 2**20  # bytes from which a weight is large
HALF = 1e-2  # tolerance of float16 outputs, relative where they are above 1
SIZES = ((3, 24), (1, 16))  # sizes of the batch and of other open dimensions in random cases


def onnx(model: keras.Model, path: str | Path, cases: list[Case] | None = None) -> Adoption:
    """Write a built Keras model as ONNX: `LSTM`, `GRU` and `Scan` nodes instead of loops.

    Stock recurrent layers are first moved onto the engine (`kerasrnn.adopt`), in a new model;
    `model` stays as it is. Inputs and outputs have the model's names. Dimensions that are None,
    such as the batch, stay open. The caller of the file carries the states of stateful layers
    between calls: there are inputs `<layer>_state_0` … and, behind the model's outputs,
    `<layer>_next_state_0` …. The file runs in a fresh process before it appears.

    Args:
        model: a Sequential, functional or subclassed model. A subclassed model must have been
            called; its file takes float32 of the same sizes, with any batch.
        path: the file to write; an existing one is replaced. When constants exceed 2 GB, they are
            written beside it, to `path` + ".data".
        cases: inputs by name, on which the file is checked. By default random numbers of two sizes,
            zeros and ones for integers, with zeros at the end of a sequence.

    Returns:
        Which layers were moved, which were already on the engine, which were left and why, and
        the ONNX operator of each.

    Raises:
        InputError: when `model` is not a built Keras model, when ONNX cannot express a part of it,
            or when `path` cannot be written.
        VerificationError: when the answers of the file differ from the model's.

    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="reader")])
    >>> print(onnx(model, Path(tempfile.mkdtemp(), "m.onnx")))
    replaced reader: LSTM by Recurrent(LSTM), in ONNX LSTM
    """
    path, signature = Path(path), _signature(model)
    if path.is_dir():
        raise InputError("path", "a file to write", f"{path}, a folder", "add m.onnx to it")
    engine_model, adoption = _on_engine(model)
    states = _kept_states(model)
    specs = _specs(signature, states)
    cases = cases or [random_case(specs, *sizes) for sizes in SIZES]
    tensors = [[tf.constant(case[spec.name]) for spec in specs] for case in cases]
    answers = [_outputs(model, signature, inputs) for inputs in tensors]
    input_names = [spec.name for spec in specs]
    names = _output_names(model, len(answers[0]) - len(states), input_names)
    names += [name.replace("_state_", "_next_state_") for name in states]
    # The conversion is limited to 2 GiB: for it large weights are inputs, not constants.
    large = _large_weights(engine_model)
    inputs = specs + [tf.TensorSpec(v.shape, v.dtype, name) for name, v in large.items()]
    values = {name: keras.ops.convert_to_numpy(variable) for name, variable in large.items()}
    lowering = Lowering()

    def run(*inputs):
        return _outputs(engine_model, signature, inputs, large.values())

    try:
        proto = onnx_file.convert(run, inputs, names, values, lowering)
    except (ValueError, NotImplementedError) as error:
        received = first_line(error)
        raise InputError("model", "parts that ONNX has", received, "leave them outside") from error
    metadata = {"task": "keras model", "opset": str(OPSET), "keras": keras.__version__}
    with staging(path, "path") as folder:
        onnx_file.write(proto, folder / path.name, metadata)
        expected = [dict(zip(names, map(np.asarray, output), strict=True)) for output in answers]
        verify(folder / path.name, cases, expected, _tolerance(model))
        onnx_file.place(folder / path.name, path)
    adoption.nodes = _operator_names(engine_model, lowering)
    return adoption


def _operator_names(model, lowering: Lowering) -> dict[str, str]:
    """By layer name, the operator that each recurrence became."""
    operators = {}
    for layer in recurrences(model):
        forward = getattr(layer, "forward_layer", layer)
        if id(forward.cell) in lowering.nodes:
            operators[layer.name] = lowering.nodes[id(forward.cell)]
    return operators


def _signature(model):
    """The model's arguments, with an `InputSpec` for each tensor."""
    name = type(model).__name__
    if not isinstance(model, keras.Model):
        raise InputError("model", "a keras.Model", name, "put layers into a Sequential")
    try:
        return get_input_signature(model)
    except ValueError as error:
        received = f"{name}, not built or never called"
        raise InputError("model", "a built keras.Model", received, "call it once") from error


def _specs(signature, states) -> list[tf.TensorSpec]:
    """The inputs of the file: the model's own, then the states. States fix the batch."""
    batch = [state.shape[0] for state in states.values()][:1] or [None]
    inputs = [
        tf.TensorSpec([*batch, *spec.shape[1:]], spec.dtype, spec.name or f"input_{i}")
        for i, spec in enumerate(tree.flatten(signature))
    ]
    return inputs + [
        tf.TensorSpec(state.shape, state.dtype, name) for name, state in states.items()
    ]


def _outputs(model, signature, inputs, weights=()) -> tuple:
    """The model's outputs and new states, without changing the model.

    Args:
        inputs: the model's inputs, its states, and values that replace `weights`.
    """
    count, states = len(tree.flatten(signature)), list(_kept_states(model).values())
    arguments = tree.pack_sequence_as(signature, list(inputs[:count]))
    # The scope collects new states instead of assigning them to the model.
    with keras.StatelessScope(list(zip([*states, *weights], inputs[count:], strict=True))) as scope:
        outputs = tree.flatten(model(*arguments, training=False))
    return (*outputs, *map(scope.get_current_value, states))


def _kept_states(model) -> dict[str, keras.Variable]:
    """The states that stateful layers keep between calls, by their name as an input."""
    kept = {}
    for layer in layers_of(model):
        if isinstance(layer, Recurrent | keras.layers.RNN) and layer.stateful:
            states = layer.kept_states if isinstance(layer, Recurrent) else layer.states
            kept.update({f"{layer.name}_state_{i}": s for i, s in enumerate(tree.flatten(states))})
    return kept


def _large_weights(model) -> dict[str, keras.Variable]:
    """The large weights of a model that is too large to convert whole; otherwise none."""
    weights = [v for v in model.variables if v.dtype == "float32"]
    sizes = [4 * math.prod(v.shape) for v in weights]
    if sum(sizes) <= onnx_file.LARGEST:
        return {}
    pairs = zip(weights, sizes, strict=True)
    return {f"weight_{i}": v for i, (v, size) in enumerate(pairs) if size >= LARGE}


def _on_engine(model) -> tuple[keras.Model, Adoption]:
    """The model on the engine, and a report. Layers inside a subclassed model are left alone."""
    if is_graph(model):
        adopted = adopt(model, copy=False)  # the copy is only read, so weights can be shared
        return adopted, adopted.adoption
    stock = (keras.layers.RNN, keras.layers.Bidirectional)
    inside = [layer.name for layer in layers_of(model) if isinstance(layer, stock)]
    already = [(layer.name, description(layer)) for layer in recurrences(model)]
    remaining = [(name, "inside a subclassed model") for name in inside]
    return model, Adoption(already=already, left=remaining)


def _tolerance(model) -> float:
    """The tolerance of the outputs, larger for layers that compute in half precision."""
    dtypes = {layer.compute_dtype for layer in layers_of(model)}
    return HALF if dtypes & {"float16", "bfloat16"} else TOLERANCE


def _output_names(model, count: int, taken: list[str]) -> list[str]:
    """Keras's names of the outputs, made unique and different from the inputs' names."""
    names = output_names(model) or [f"output_{i}" for i in range(count)]
    unique = []
    for name in names:
        number, candidate = 1, name
        while candidate in (*taken, *unique):
            number, candidate = number + 1, f"{name}_{number}"
        unique.append(candidate)
    return unique


def random_case(specs, batch: int, other: int) -> Case:
    """Random inputs. The last sequence of a batch ends in zeros, which a model may mask."""
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
    """Random inputs of two sizes for an ONNX file, from its declared inputs."""
    specs = []
    for declared in model.graph.input:
        tensor_type = declared.type.tensor_type
        dtype = tf.as_dtype(onnx_proto.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type))
        shape = [size.dim_value or None for size in tensor_type.shape.dim]
        specs.append(tf.TensorSpec(shape, dtype, declared.name))
    return [random_case(specs, *sizes) for sizes in SIZES]
