"""Writes the parts of `kerasrnn.text.parts` as ONNX graphs of stock ONNX Runtime operators.

B batch, C tokens of the longest string, N ids, V vocabulary. Only SentencePiece needs operators of
onnxruntime-extensions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from kerasrnn.text.parts import (
    Detokenize,
    DetokenizeBest,
    NameClass,
    NameSource,
    Tokenize,
)
from kerasrnn.text.tokenizers import (
    END,
    ENDED,
    PAD,
    RESERVED,
    START,
    UNKNOWN,
    WORD_PATTERN,
    Tokenizer,
)

OPSET = 20  # the first that has StringConcat
ML_OPSET = 4
PADDING = "<pad>"  # cannot be a character or a match of WORD_PATTERN
DOMAINS = {"": OPSET, "ai.onnx.ml": ML_OPSET, "com.microsoft": 1}
EXTENSIONS = "ai.onnx.contrib"


class _Graph:
    """The nodes and constants of a graph under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        """Add a constant and return its name."""
        array = np.asarray(value)
        kind = object if array.dtype.kind == "U" else array.dtype
        self.constants.append(onnx.numpy_helper.from_array(array.astype(kind), name))
        return name

    def model(self, inputs: list, outputs: list, domains: dict[str, int]) -> onnx.ModelProto:
        """The ONNX model of the graph."""
        graph = helper.make_graph(self.nodes, "text", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def graph_of(part) -> onnx.ModelProto:
    """The graph of a part of `kerasrnn.text.parts`."""
    return GRAPHS[type(part)](part)


def _tokenize(part: Tokenize) -> onnx.ModelProto:
    """The graph of `Tokenize`; of subwords it does not give the text behind each id."""
    tokenizer, name, parts = part.tokenizer, part.text, part.parts
    graph = _Graph()
    domains = dict(DOMAINS)
    if tokenizer.level == "subword":
        domains[EXTENSIONS] = 1
        ids = _sentencepiece(graph, tokenizer, name)
    else:
        by = {"separators": [""]} if tokenizer.level == "char" else {"tokenexp": WORD_PATTERN}
        shape = {"mark": 0, "mincharnum": 1, "pad_value": PADDING, **by}
        words = tokenizer.level == "word"
        graph.add("Tokenizer", [name], "found" if words else parts, "com.microsoft", **shape)
        if words:  # as `WordTokenizer.split` does, show NUL as unknown
            nul = graph.constant("nul", np.array("\0", object))  # NumPy's string type drops it
            graph.add("Equal", ["found", nul], "is_nul")
            shown = graph.constant("shown", RESERVED[UNKNOWN])
            graph.add("Where", ["is_nul", shown, "found"], parts)
        ids = graph.add(
            "LabelEncoder",
            [parts],
            "ids64",
            "ai.onnx.ml",
            keys_strings=[PADDING, *tokenizer.pieces[len(RESERVED) :]],
            values_int64s=[PAD, *range(len(RESERVED), tokenizer.size)],
            default_int64=UNKNOWN,
        )
    graph.add("Cast", [ids], part.ids, to=TensorProto.INT32)
    text = helper.make_tensor_value_info(name, TensorProto.STRING, ["B"])
    # Two texts of a model have lengths of their own: equal names of axes would mean equal sizes.
    shape = ["B", f"{name}_length"]
    outputs = [helper.make_tensor_value_info(part.ids, TensorProto.INT32, shape)]
    if tokenizer.level != "subword":
        outputs.append(helper.make_tensor_value_info(parts, TensorProto.STRING, shape))
    return graph.model([text], outputs, domains)


def _name_source(part: NameSource) -> onnx.ModelProto:
    """The graph of `NameSource`; of subwords it reads the ids only."""
    tokenizer, parts = part.of.tokenizer, part.of.parts
    graph = _Graph()
    info = helper.make_tensor_value_info
    inputs = [info("source_ids", TensorProto.INT32, ["B", "S"])]
    graph.constant("nothing", "")
    graph.constant("ended", ENDED)
    graph.add("Equal", ["source_ids", graph.constant("end", np.int32(END))], "is_end")
    graph.add("Equal", ["source_ids", graph.constant("pad", np.int32(PAD))], "is_pad")
    if tokenizer.level == "subword":
        graph.add("Cast", ["source_ids"], "ids64", to=TensorProto.INT64)
        _pieces(graph, "ids64", list(tokenizer.pieces), "wide")
    else:
        inputs.append(info(parts, TensorProto.STRING, ["B", f"{part.of.text}_length"]))
        graph.add("Shape", ["source_ids"], "rows", start=0, end=1)
        graph.add("Concat", ["rows", graph.constant("one", np.array([1], np.int64))], "c", axis=0)
        graph.add("Expand", [graph.constant("empty", np.array([[""]], object)), "c"], "column")
        graph.add("Concat", [parts, "column"], "wide", axis=1)
    graph.add("Where", ["is_pad", "nothing", "wide"], "real")
    graph.add("Where", ["is_end", "ended", "real"], "source_tokens")
    return graph.model(inputs, [info("source_tokens", TensorProto.STRING, ["B", "S"])], DOMAINS)


def _pieces(graph: _Graph, ids: str, pieces: list[str], output: str) -> str:
    """The text of each id, int64."""
    return graph.add(
        "LabelEncoder",
        [ids],
        output,
        "ai.onnx.ml",
        keys_int64s=list(range(len(pieces))),
        values_strings=pieces,
        default_string="",
    )


def _sentencepiece(graph: _Graph, tokenizer: Tokenizer, name: str) -> str:
    """Ids int64 [B, C] of subwords.

    onnxruntime-extensions gives one flat row of ids, and where the ids of each string begin.
    """
    switches = ("add_bos", "add_eos", "reverse")
    inputs = [_without_nul(graph, name), graph.constant("nbest", np.array([0], np.int64))]
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
    graph.add("Range", ["zero", "longest", "one"], "id_columns")
    graph.add("Unsqueeze", ["lengths", "one_axis"], "lengths_column")
    graph.add("Unsqueeze", ["starts", "one_axis"], "starts_column")
    graph.add("Less", ["id_columns", "lengths_column"], "inside")
    graph.add("Add", ["id_columns", "starts_column"], "places")
    graph.add("Where", ["inside", "places", "zero"], "safe_places")
    # Without any id there would be nothing to gather from: append one pad.
    graph.add("Cast", ["flat"], "flat64", to=TensorProto.INT64)
    graph.add("Concat", ["flat64", "zero_axis"], "flat_padded", axis=0)
    graph.add("Gather", ["flat_padded", "safe_places"], "gathered")
    return graph.add("Where", ["inside", "gathered", "zero"], "ids64")


def _without_nul(graph: _Graph, name: str) -> str:
    """Strings [B] with "�" for each NUL: onnxruntime-extensions ends a string at NUL."""
    graph.nodes.append(
        helper.make_node("StringSplit", [name], ["between", "counts"], delimiter="\0")
    )
    graph.add("Shape", ["between"], "parts_most", start=1)
    graph.add("Squeeze", ["parts_most"], "parts_count")
    begin, step = (graph.constant(f"from_{n}", np.array(n, np.int64)) for n in (0, 1))
    graph.add("Range", [begin, "parts_count", step], "part_places")
    graph.add(
        "Unsqueeze", ["counts", graph.constant("column_axis", np.array([-1]))], "counts_column"
    )
    graph.add("Less", ["part_places", "counts_column"], "is_part")
    graph.add("Equal", ["part_places", begin], "is_first")
    graph.add("StringConcat", [graph.constant("mark", RESERVED[UNKNOWN]), "between"], "marked")
    graph.add("Where", ["is_first", "between", "marked"], "with_marks")
    graph.add("Where", ["is_part", "with_marks", graph.constant("none", "")], "kept_parts")
    _join(graph, "kept_parts", "no_nul", ["B"])
    return "no_nul"


def _detokenize(part: Detokenize) -> onnx.ModelProto:
    """The graph of `Detokenize`: it looks the pieces up and joins them in a loop."""
    tokenizer, name = part.tokenizer, part.text
    graph, info = _Graph(), helper.make_tensor_value_info
    inputs = [info("all_ids", TensorProto.INT32, ["B", "N"])]
    pieces = _spaced_pieces(graph, tokenizer, "all_ids")
    if part.replaces:
        inputs.append(info("source_tokens", TensorProto.STRING, ["B", "S"]))
        inputs.append(info("all_copied", TensorProto.INT32, ["B", "N"]))
        pieces, _ = _replaced(graph, pieces, "all_ids", "all_copied")
    _join(graph, pieces, name, ["B"])
    return graph.model(inputs, [info(name, TensorProto.STRING, ["B"])], DOMAINS)


def _detokenize_best(part: DetokenizeBest) -> onnx.ModelProto:
    """The graph of `DetokenizeBest`."""
    tokenizer = part.tokenizer
    graph, info = _Graph(), helper.make_tensor_value_info
    inputs = [info("tokens", TensorProto.INT32, ["B", "N", "T"])]
    spaced = _spaced_pieces(graph, tokenizer, "tokens")
    graph.add("Cast", ["tokens"], "tokens64", to=TensorProto.INT64)
    plain = _pieces(graph, "tokens64", list(tokenizer.pieces), "plain")
    if part.replaces:
        inputs.append(info("source_tokens", TensorProto.STRING, ["B", "S"]))
        inputs.append(info("copied", TensorProto.INT32, ["B", "N", "T"]))
        spaced, words = _replaced(graph, spaced, "tokens", "copied")
        plain = graph.add("Where", ["is_unknown", words, plain], "plain_replaced")
    ends = [graph.constant(name, np.array([n], np.int64)) for name, n in (("zero", 0), ("one", 1))]
    graph.add("Slice", [plain, *ends, "one"], "best")
    graph.add("Squeeze", ["best", "one"], "target_tokens")
    _join(graph, spaced, "text", ["B", "N"])
    outputs = [info("text", TensorProto.STRING, ["B", "N"])]
    outputs.append(info("target_tokens", TensorProto.STRING, ["B", "T"]))
    return graph.model(inputs, outputs, DOMAINS)


def _name_class(part: NameClass) -> onnx.ModelProto:
    """The graph of `NameClass`."""
    graph, info = _Graph(), helper.make_tensor_value_info
    graph.add("Cast", [part.number], "number64", to=TensorProto.INT64)
    _pieces(graph, "number64", list(part.names), part.label)
    inputs = [info(part.number, TensorProto.INT32, ["B"])]
    return graph.model(inputs, [info(part.label, TensorProto.STRING, ["B"])], DOMAINS)


def _replaced(graph: _Graph, spaced: str, ids: str, copied: str) -> tuple[str, str]:
    """The texts `spaced` of `ids` with unknown ones replaced, and the words that replace them."""
    words = _copied_words(graph, copied)
    graph.add("Equal", [ids, graph.constant("unknown", np.int32(UNKNOWN))], "is_unknown")
    graph.add("StringConcat", [graph.constant("space", " "), words], "words_apart")
    # `_spaced` adds `joined`. Only word tokenizers, which use `_spaced`, replace unknown words.
    graph.add("Where", ["joined", words, "words_apart"], "spaced_words")
    return graph.add("Where", ["is_unknown", "spaced_words", spaced], "spaced_replaced"), words


def _copied_words(graph: _Graph, copied: str) -> str:
    """The words of `source_tokens` [B, S] at the places `copied` [B, ...]."""
    graph.add("Cast", [copied], "copied64", to=TensorProto.INT64)
    graph.add("Shape", [copied], "copied_shape")
    graph.constant("flat_shape", np.array([0, -1], np.int64))
    graph.add("Reshape", ["copied64", "flat_shape"], "copied_flat")
    graph.add("GatherElements", ["source_tokens", "copied_flat"], "words_flat", axis=1)
    return graph.add("Reshape", ["words_flat", "copied_shape"], "words", allowzero=1)


def _spaced_pieces(graph: _Graph, tokenizer: Tokenizer, name: str) -> str:
    """The text of each id of `name` int32, with the spaces between words."""
    ids = graph.add("Cast", [name], f"{name}_wide", to=TensorProto.INT64)
    pieces = list(tokenizer.pieces)
    if tokenizer.level == "word":
        ids, pieces = _spaced(graph, tokenizer, ids), [*pieces, *(" " + p for p in pieces)]
    return _pieces(graph, ids, pieces, "pieces")


def _join(graph: _Graph, pieces: str, name: str, shape: list[str]) -> None:
    """Join strings [*shape, N] to strings `name` [*shape].

    Each step joins neighbours, until one string is left: log N steps.
    """
    graph.constant("one_column", np.array([1], np.int64))
    graph.constant("last", np.array([-1], np.int64))
    graph.add("Shape", [pieces], "rows_shape", end=-1)
    graph.add("Concat", ["rows_shape", "one_column"], "column_shape", axis=0)
    graph.add(
        "Expand", [graph.constant("empty", np.array([""], object)), "column_shape"], "nothing"
    )
    graph.add("Concat", [pieces, "nothing"], "parts", axis=-1)
    graph.constant("go", np.array(True))
    graph.constant("most", np.array(64, np.int64))  # of steps; 2**64 is no number of pieces
    graph.add("Loop", ["most", "go", "parts"], "whole", body=_join_body(shape))
    graph.add("Squeeze", ["whole", "last"], name)


def _spaced(graph: _Graph, tokenizer: Tokenizer, ids: str) -> str:
    """Move the ids that need a space before them to the second half of the table."""
    graph.constant("joins_left", tokenizer.joins_left)
    graph.constant("joins_right", tokenizer.joins_right)
    graph.constant("size", np.array(tokenizer.size, np.int64))
    graph.add("Shape", [ids], "last_shape", end=-1)
    graph.add(
        "Concat", ["last_shape", graph.constant("one_long", np.array([1]))], "start_shape", axis=0
    )
    graph.add("Expand", [graph.constant("start", np.array([START])), "start_shape"], "starts")
    for name, value in (("from", 0), ("to", -1), ("axis", -1)):
        graph.constant(name, np.array([value], np.int64))
    graph.add("Slice", [ids, "from", "to", "axis"], "all_but_last")
    graph.add("Concat", ["starts", "all_but_last"], "before", axis=-1)
    graph.add("Gather", ["joins_left", ids], "left")
    graph.add("Gather", ["joins_right", "before"], "right")
    graph.add("Or", ["left", "right"], "joined")
    graph.add("Add", [ids, "size"], "moved")
    return graph.add("Where", ["joined", ids, "moved"], "spaced_ids")


def _join_body(shape: list[str]) -> onnx.GraphProto:
    """The loop's body: parts [*shape, M], M at least 1 -> half as many, joined in pairs."""
    node = helper.make_node
    nodes = [
        node("Slice", ["parts_in", "first", "stop", "last_axis", "every_other"], ["parts_left"]),
        node("Concat", ["parts_in", "nothing"], ["even"], axis=-1),
        node("Slice", ["even", "second", "stop", "last_axis", "every_other"], ["parts_right"]),
        node("StringConcat", ["parts_left", "parts_right"], ["parts_out"]),
        node("Shape", ["parts_out"], ["count"], start=-1),
        node("Greater", ["count", "second"], ["several"]),
        node("Squeeze", ["several"], ["go_out"]),
    ]
    numbers = {"first": 0, "second": 1, "every_other": 2, "last_axis": -1}
    numbers["stop"] = np.iinfo(np.int64).max
    arrays = {name: np.array([number], np.int64) for name, number in numbers.items()}
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    info = helper.make_tensor_value_info
    inputs = [
        info("i", TensorProto.INT64, []),
        info("go_in", TensorProto.BOOL, []),
        info("parts_in", TensorProto.STRING, [*shape, "M"]),
    ]
    outputs = [info("go_out", TensorProto.BOOL, [])]
    outputs.append(info("parts_out", TensorProto.STRING, [*shape, "halved"]))
    return helper.make_graph(nodes, "join", inputs, outputs, constants)


GRAPHS = {
    Detokenize: _detokenize,
    DetokenizeBest: _detokenize_best,
    NameClass: _name_class,
    NameSource: _name_source,
    Tokenize: _tokenize,
}
