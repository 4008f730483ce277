"""Tokenizers as ONNX graphs of stock ONNX Runtime operators.

B batch, C tokens of the longest string, N ids, V vocabulary. SentencePiece alone needs the
operators of onnxruntime-extensions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.text import PAD, RESERVED, START, UNKNOWN, WORD_PATTERN, Tokenizer

OPSET = 20  # the first with StringConcat
ML_OPSET = 4
PADDING = "<pad>"  # never a character, nor a word of WORD_PATTERN
DOMAINS = {"": OPSET, "ai.onnx.ml": ML_OPSET, "com.microsoft": 1}
EXTENSIONS = "ai.onnx.contrib"


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        array = np.asarray(value)
        kind = object if array.dtype.kind == "U" else array.dtype
        self.constants.append(onnx.numpy_helper.from_array(array.astype(kind), name))
        return name

    def model(self, inputs: list, outputs: list, domains: dict[str, int]) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "text", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def tokenizer_graph(tokenizer: Tokenizer, name: str) -> onnx.ModelProto:
    """Strings `name` [B] -> `ids` int32 [B, C], padded with 0."""
    graph = _Graph()
    domains = dict(DOMAINS)
    if tokenizer.level == "subword":
        domains[EXTENSIONS] = 1
        ids = _sentencepiece(graph, tokenizer, name)
    else:
        by = {"separators": [""]} if tokenizer.level == "char" else {"tokenexp": WORD_PATTERN}
        shape = {"mark": 0, "mincharnum": 1, "pad_value": PADDING, **by}
        graph.add("Tokenizer", [name], "parts", "com.microsoft", **shape)
        ids = graph.add(
            "LabelEncoder",
            ["parts"],
            "ids64",
            "ai.onnx.ml",
            keys_strings=[PADDING, *tokenizer.pieces[len(RESERVED) :]],
            values_int64s=[PAD, *range(len(RESERVED), tokenizer.size)],
            default_int64=UNKNOWN,
        )
    graph.add("Cast", [ids], "ids", to=TensorProto.INT32)
    text = helper.make_tensor_value_info(name, TensorProto.STRING, ["B"])
    dense = helper.make_tensor_value_info("ids", TensorProto.INT32, ["B", "P"])
    return graph.model([text], [dense], domains)


def _sentencepiece(graph: _Graph, tokenizer: Tokenizer, name: str) -> str:
    """onnxruntime-extensions gives one flat row of ids and where each string's begin."""
    switches = ("add_bos", "add_eos", "reverse")
    inputs = [name, graph.constant("nbest", np.array([0], np.int64))]
    inputs.append(graph.constant("alpha", np.array([0], np.float32)))
    inputs += [graph.constant(switch, np.array([False])) for switch in switches]
    graph.nodes.append(
        helper.make_node(
            "SentencepieceTokenizer",
            inputs,
            ["flat", "begins"],
            domain=EXTENSIONS,
            model=tokenizer.model,
        )
    )
    for constant, value in (("zero", 0), ("one", 1)):
        graph.constant(constant, np.array(value, np.int64))
        graph.constant(f"{constant}_axis", np.array([value], np.int64))
    graph.constant("end", np.array([np.iinfo(np.int64).max], np.int64))
    graph.constant("minus_one", np.array([-1], np.int64))
    graph.add("Slice", ["begins", "one_axis", "end"], "stops")
    graph.add("Slice", ["begins", "zero_axis", "minus_one"], "starts")
    graph.add("Sub", ["stops", "starts"], "lengths")
    graph.add("ReduceMax", ["lengths"], "longest", keepdims=0)
    graph.add("Range", ["zero", "longest", "one"], "columns")
    graph.add("Unsqueeze", ["lengths", "one_axis"], "lengths_column")
    graph.add("Unsqueeze", ["starts", "one_axis"], "starts_column")
    graph.add("Less", ["columns", "lengths_column"], "inside")
    graph.add("Add", ["columns", "starts_column"], "places")
    graph.add("Where", ["inside", "places", "zero"], "safe_places")
    # One pad behind the ids, so that there is always something to gather.
    graph.add("Cast", ["flat"], "flat64", to=TensorProto.INT64)
    graph.add("Concat", ["flat64", "zero_axis"], "flat_padded", axis=0)
    graph.add("Gather", ["flat_padded", "safe_places"], "gathered")
    return graph.add("Where", ["inside", "gathered", "zero"], "ids64")


def detokenizer_graph(tokenizer: Tokenizer, name: str) -> onnx.ModelProto:
    """`all_ids` int32 [B, N] -> strings `name` [B]: look the pieces up and join them in a loop."""
    graph = _Graph()
    ids = graph.add("Cast", ["all_ids"], "all_ids64", to=TensorProto.INT64)
    pieces = list(tokenizer.pieces)
    if tokenizer.level == "word":
        ids, pieces = _spaced(graph, tokenizer, ids), [*pieces, *(" " + p for p in pieces)]
    graph.add(
        "LabelEncoder",
        [ids],
        "pieces",
        "ai.onnx.ml",
        keys_int64s=list(range(len(pieces))),
        values_strings=pieces,
        default_string="",
    )
    graph.add("Shape", ["all_ids"], "shape")
    graph.constant("first", np.array([0], np.int64))
    graph.constant("second", np.array([1], np.int64))
    graph.constant("scalar", np.array([], np.int64))
    graph.add("Gather", ["shape", "first"], "rows")
    graph.add("Gather", ["shape", "second"], "columns_1d")
    graph.add("Reshape", ["columns_1d", "scalar"], "columns")
    graph.constant("empty", np.array([""], dtype=object))
    graph.add("Expand", ["empty", "rows"], "begin")
    graph.constant("go", np.array(True))
    graph.add("Loop", ["columns", "go", "begin"], name, body=_join_body())
    ids_info = helper.make_tensor_value_info("all_ids", TensorProto.INT32, ["B", "N"])
    text = helper.make_tensor_value_info(name, TensorProto.STRING, ["B"])
    return graph.model([ids_info], [text], DOMAINS)


def _spaced(graph: _Graph, tokenizer: Tokenizer, ids: str) -> str:
    """Move the ids that take a space before them into a second half of the table."""
    graph.constant("joins_left", tokenizer.joins_left)
    graph.constant("joins_right", tokenizer.joins_right)
    graph.constant("size", np.array(tokenizer.size, np.int64))
    graph.constant("pads", np.array([0, 1, 0, -1], np.int64))
    graph.constant("start", np.array(START, np.int64))
    graph.add("Pad", [ids, "pads", "start"], "before")
    graph.add("Gather", ["joins_left", ids], "left")
    graph.add("Gather", ["joins_right", "before"], "right")
    graph.add("Or", ["left", "right"], "joined")
    graph.add("Add", [ids, "size"], "moved")
    return graph.add("Where", ["joined", ids, "moved"], "spaced_ids")


def _join_body() -> onnx.GraphProto:
    """so_far [B] -> so_far with column i of `pieces` [B, N] behind it."""
    nodes = [
        helper.make_node("Gather", ["pieces", "i"], ["piece"], axis=1),
        helper.make_node("StringConcat", ["so_far", "piece"], ["longer"]),
        helper.make_node("Identity", ["go_in"], ["go_out"]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info("i", TensorProto.INT64, []),
        info("go_in", TensorProto.BOOL, []),
        info("so_far", TensorProto.STRING, ["B"]),
    ]
    outputs = [info("go_out", TensorProto.BOOL, []), info("longer", TensorProto.STRING, ["B"])]
    return helper.make_graph(nodes, "join", inputs, outputs)
