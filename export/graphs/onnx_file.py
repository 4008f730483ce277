"""A traced function -> ONNX, and parts joined to one file."""

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
OUTSIDE = 1024  # bytes of a constant that is worth a place outside


def convert(
    function: Callable,
    signature: Sequence[tf.TensorSpec],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray] | None = None,
    lowering: Lowering | None = None,
) -> onnx.ModelProto:
    """A function of tensors, traced for `signature`, as ONNX with the given output names.

    Inputs that `weights` names become constants of these values, which the conversion, limited
    to 2 GiB, never sees; the values are taken out of `weights`, as memory is needed. `lowering`
    then knows what became of each recurrence.

    Raises:
        NotImplementedError: naming the operators that ONNX has not.
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
    found = [node for node in nodes(model.graph) if node.domain != DOMAIN]
    unknown = {node.op_type for node in found if not onnx.defs.has(node.op_type, node.domain)}
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
    for i, given in reversed(list(enumerate(graph.input))):
        if given.name in weights:
            array = weights.pop(given.name)
            graph.initializer.append(numpy_helper.from_array(array, given.name))
            del graph.input[i]


def joined(parts: dict[str, onnx.ModelProto], outputs: Sequence[str]) -> onnx.ModelProto:
    """Models one behind the other: what one reads by the name of an earlier one's output is that.

    Args:
        parts: by the prefix that keeps their inner names apart; inputs that no earlier part
            gives are inputs of the whole.
        outputs: of the whole, by name, in their order.
    """
    keep = {"rename_inputs": False, "rename_outputs": False}
    whole, *rest = [
        compose.add_prefix(part, name, **keep) if name else part for name, part in parts.items()
    ]
    for part in rest:
        _declare(whole, part)
        _declare(part, whole)
        known, wanted = list(whole.graph.output), {i.name for i in part.graph.input}
        pairs = [(o.name, o.name) for o in known if o.name in wanted]
        whole = compose.merge_models(whole, part, io_map=pairs)
        # What was read is no output any more; another part may read it too.
        whole.graph.output.extend(o for o in known if o.name in wanted)
    found = {o.name: o for o in whole.graph.output}
    del whole.graph.output[:]
    whole.graph.output.extend(found[name] for name in outputs)
    return whole


def _declare(model: onnx.ModelProto, like: onnx.ModelProto) -> None:
    """Give `model` the operator sets of `like`: models that are merged must agree."""
    known = {opset.domain: opset.version for opset in model.opset_import}
    known.update({opset.domain: opset.version for opset in like.opset_import})
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, v) for domain, v in known.items())


def write(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Check the model and write it, with `metadata` that `onnx` alone can read.

    Of a model above `LARGEST`, its constants stand beside it in `path` + ".data".
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
    path.with_name(f"{path.name}.data").chmod(path.stat().st_mode)  # ONNX keeps it from others
    onnx.checker.check_model(path)


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes; `raw_data` would be a copy of them."""
    return math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def place(written: Path, path: Path) -> None:
    """Move what `write` wrote to its place: the constants beside it first, then the model."""
    for file in sorted(written.parent.glob(f"{written.name}*"), reverse=True):
        os.replace(file, path.with_name(file.name))


def add_metadata(path: Path, more: dict[str, str]) -> None:
    """Let a file say more of itself."""
    model = onnx.load(path, load_external_data=False)
    helper.set_model_props(model, {e.key: e.value for e in model.metadata_props} | more)
    onnx.save(model, path)
