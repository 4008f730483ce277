"""A traced function -> one ONNX file with its tokenizer and detokenizer inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import tensorflow as tf
from onnx import compose, helper

from kerasrnn.export.onnx_loops import read_from_outside
from kerasrnn.export.onnx_text import OPSET, detokenizer_graph, tokenizer_graph
from kerasrnn.export.tf2onnx_patch import HANDLERS, load_tf2onnx
from kerasrnn.text import Tokenizer

TF2ONNX_OPSET = 18  # the newest that tf2onnx writes; ONNX's own converter goes on from there
IR_VERSION = 9


def convert(
    function: Callable, signature: list[tf.TensorSpec], outputs: list[str]
) -> onnx.ModelProto:
    """A function of tensors, traced for `signature`, as ONNX with the given output names."""
    traced = tf.function(function, input_signature=signature)
    model, _ = load_tf2onnx().convert.from_function(
        traced,
        input_signature=signature,
        opset=TF2ONNX_OPSET,
        custom_op_handlers=dict(HANDLERS),
    )
    model = onnx.version_converter.convert_version(model, OPSET)
    model.ir_version = IR_VERSION
    read_from_outside(model.graph)
    for output, name in zip(model.graph.output, outputs, strict=True):
        model.graph.node.append(helper.make_node("Identity", [output.name], [name]))
        output.name = name
    return model


def with_text(
    core: onnx.ModelProto, tokenizer: Tokenizer, source: str, text: str
) -> onnx.ModelProto:
    """Put the tokenizer before `core`'s input `ids` and the detokenizer behind its `all_ids`.

    Args:
        core: has an input `ids` int32 [B, P] and an output `all_ids` int32 [B, N].
        tokenizer: both directions.
        source: name of the string input [B].
        text: name of the string output [B].
    """
    keep = {"rename_inputs": False, "rename_outputs": False}
    before = compose.add_prefix(tokenizer_graph(tokenizer, source), "tokenize/", **keep)
    behind = compose.add_prefix(detokenizer_graph(tokenizer, text), "detokenize/", **keep)
    outputs = [output.name for output in core.graph.output if output.name != "all_ids"]
    _declare(core, before)
    model = compose.merge_models(before, core, io_map=[("ids", "ids")])
    model = compose.merge_models(
        model, behind, io_map=[("all_ids", "all_ids")], outputs=[text, *outputs]
    )
    return model


def _declare(model: onnx.ModelProto, like: onnx.ModelProto) -> None:
    """Give `model` the operator sets of `like`: models that are merged must agree."""
    known = {opset.domain: opset.version for opset in model.opset_import}
    known.update({opset.domain: opset.version for opset in like.opset_import})
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, v) for domain, v in known.items())


def write(model: onnx.ModelProto, path: Path, metadata: dict[str, str]) -> None:
    """Check the model and write it, with `metadata` that `onnx` alone can read."""
    model.producer_name = "kerasrnn"
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)
