"""Converts a traced function to ONNX, and joins several ONNX models into one file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
from onnx import compose, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from kerasrnn.compat.tf2onnx import HANDLERS, load_tf2onnx
from kerasrnn.engine.recurrence import exporting
from kerasrnn.export.graphs.loops import nodes, read_from_outside
from kerasrnn.export.graphs.lowering import DOMAIN, Lowering
from kerasrnn.export.graphs.recurrence import expand
from kerasrnn.export.graphs.text import OPSET
from kerasrnn.export.graphs.tidy import share
from kerasrnn.export.quiet import quiet

TF2ONNX_OPSET = 18  # the newest that tf2onnx writes; ONNX's own converter goes on from there
IR_VERSION = 9
LARGEST = 2_000_000_000  # bytes of constants in the model's own file; protobuf ends at 2 GiB
OUTSIDE = 1024  # smallest constant, in bytes, that is stored outside the model's own file


def convert(
    function: Callable,
    signature: Sequence[tf.TensorSpec],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    lowering: Lowering | None = None,
) -> onnx.ModelProto:
    """Convert a function of tensors, traced for `signature`, to ONNX with these output names.

    Inputs named in `weights` become constants with these values. The conversion, which is limited
    to 2 GiB, does not see the values; they are removed from `weights` to free memory. Afterwards
    `lowering` knows the operator of each recurrence.

    Raises:
        NotImplementedError: about the operators that ONNX lacks.
    """
    traced, lowering = tf.function(function, input_signature=signature), lowering or Lowering()
    tf2onnx = load_tf2onnx()
    with exporting(lowering), quiet():
        model, _ = tf2onnx.convert.from_function(
            traced,
            input_signature=signature,
            opset=TF2ONNX_OPSET,
            custom_op_handlers={**HANDLERS, **lowering.handlers},
            extra_opset=[helper.make_opsetid(DOMAIN, 1)],
        )
    # Operators that tf2onnx cannot convert stay in the graph; only our markers are expected.
    operators = [node for node in nodes(model.graph) if node.domain != DOMAIN]
    unknown = {node.op_type for node in operators if not onnx.defs.has(node.op_type, node.domain)}
    if unknown:
        raise NotImplementedError(f"TensorFlow's {', '.join(sorted(unknown))}")
    model = onnx.version_converter.convert_version(model, OPSET)
    model.ir_version = IR_VERSION
    expand(model, lowering.marked)
    read_from_outside(model.graph)
    for output, name in zip(model.graph.output, outputs, strict=True):
        model.graph.node.append(helper.make_node("Identity", [output.name], [name]))
        output.name = name
    _fill(model.graph, weights or {})
    share(model.graph)
    return model


def _fill(graph: onnx.GraphProto, weights: dict[str, np.ndarray]) -> None:
    """Turn the inputs named in `weights` into constants."""
    for i, declared in reversed(list(enumerate(graph.input))):
        if declared.name in weights:
            array = weights.pop(declared.name)
            graph.initializer.append(numpy_helper.from_array(array, declared.name))
            del graph.input[i]


def join_models(parts: dict[str, onnx.ModelProto], outputs: Sequence[str]) -> onnx.ModelProto:
    """Join models in a row: an input takes the output of an earlier model with the same name.

    Args:
        parts: models by the prefix that keeps their inner names apart. Inputs that no earlier part
            provides are inputs of the joined model.
        outputs: names of the outputs of the joined model, in order.
    """
    keep = {"rename_inputs": False, "rename_outputs": False}
    whole, *later = [
        compose.add_prefix(part, name, **keep) if name else part for name, part in parts.items()
    ]
    for part in later:
        _declare(whole, part)
        _declare(part, whole)
        available, wanted = list(whole.graph.output), {i.name for i in part.graph.input}
        pairs = [(o.name, o.name) for o in available if o.name in wanted]
        whole = compose.merge_models(whole, part, io_map=pairs)
        # `merge_models` removes outputs that were read; a later part may read them too.
        whole.graph.output.extend(o for o in available if o.name in wanted)
    by_name = {o.name: o for o in whole.graph.output}
    del whole.graph.output[:]
    whole.graph.output.extend(by_name[name] for name in outputs)
    return whole


def _declare(model: onnx.ModelProto, like: onnx.ModelProto) -> None:
    """Give `model` the operator sets of `like`; models to be merged must have the same ones."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    versions.update({opset.domain: opset.version for opset in like.opset_import})
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, v) for domain, v in versions.items())


def write(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Check the model and write it, with `metadata` that `onnx` alone can read.

    When constants exceed `LARGEST`, they are written beside it, to `path` + ".data".
    """
    model.producer_name = "kerasrnn"
    helper.set_model_props(model, metadata)
    tensors = list(model.graph.initializer)
    if sum(map(_size, tensors)) <= LARGEST:
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return
    for tensor in tensors:
        if tensor.HasField("raw_data") and _size(tensor) >= OUTSIDE:
            set_external_data(tensor, f"{path.name}.data")
    onnx.save(model, path)
    path.with_name(f"{path.name}.data").chmod(path.stat().st_mode)  # ONNX makes it private
    onnx.checker.check_model(path)


def _size(tensor: onnx.TensorProto) -> int:
    """The bytes of a constant. Reading `raw_data` would copy them."""
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def place(written: Path, path: Path) -> None:
    """Move the files of `write` to their place: first the constants, then the model."""
    # A model that is in its place must find its constants.
    for file in sorted(written.parent.glob(f"{written.name}*"), reverse=True):
        os.replace(file, path.with_name(file.name))


def add_metadata(path: Path, more: dict[str, str]) -> None:
    """Add entries to the metadata of a file."""
    model = onnx.load(path, load_external_data=False)
    helper.set_model_props(model, {e.key: e.value for e in model.metadata_props} | more)
    onnx.save(model, path)
