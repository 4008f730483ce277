"""Refuses exported files that would read, write or reach anything else.

A file is checked before a runtime loads it. An ONNX file may name other files that hold its
constants. A SavedModel is a program of TensorFlow operators, some of which read and write files,
call Python or open connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kerasrnn.base.errors import NEVER, InputError
from kerasrnn.export.runner import CONTRIB, GRAPH, STREAMING, load_streaming

EXTENSIONS = (CONTRIB, "com.microsoft.extensions")
OURS = {"SentencepieceTokenizer"}  # the one extension that we write; some others read files

# TensorFlow calls an operator stateful when it does more than compute a result. These stateful
# operators are harmless: they only hold a value or draw random numbers.
HOLDING = re.compile(
    r"(Anonymous)?(Mutable)?(Dense)?HashTable(V2)?|LookupTable\w+V2|InitializeTableV2"
    r"|(VarHandle|VarIsInitialized|ReadVariable|Assign(Add|Sub)?Variable|DisableCopyOnRead)(Op)?"
    r"|ResourceGather(Nd)?|VariableShape|(Stateful)?PartitionedCall|If|While|Case|Assert"
    r"|TensorArray\w+|Stack(Push|Pop|Close)?V2|RandomStandardNormal|RandomUniform(Int)?"
    r"|TruncatedNormal|Multinomial|StatefulUniform\w*|StatefulStandardNormalV2|RngReadAndSkip"
    r"|StatelessRandomGetAlg|CheckNumerics(V2)?|Sentencepiece\w+"
)
# These operators are not called stateful, but they read files, run Python or wait for others.
REACHING = re.compile(
    r"Abort|Dataset|Debug|File|ImmutableConst|Iterator|Proto|PyFunc|Queue|Reader|Recv|Remapping"
    r"|Send|Snapshot|Summary|T[Pp][Uu]"
)
# Every SavedModel has these in its functions for saving.
SAVING = {"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}


def check_artifact(path: Path, argument: str = "MODEL") -> None:
    """Inspect an ONNX file or a SavedModel; nothing of it is run.

    Args:
        path: the file or folder. Of the files for use token by token, any one stands for all.
        argument: the argument that an error names.

    Raises:
        InputError: about the thing that would be read or reached, or about a file of another kind.
    """
    if path.is_dir():
        fault = _saved_model_fault(path)
    else:
        fault = _onnx_fault(path)
    if fault:
        expected = "a model that reads and reaches nothing but itself"
        raise InputError(argument, expected, f"{path}, {fault}", NEVER)


def _onnx_fault(path: Path) -> str:
    """The fault of an ONNX file or of those that belong to it; "" when there is none."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    fault = _graph_fault(model, path.parent)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if fault or STREAMING not in metadata:
        return fault
    for file in load_streaming(path, metadata):
        part = onnx.load(file, load_external_data=False)
        if fault := _graph_fault(part, path.parent):
            return f"with {file.name}, {fault}"
    return ""


def _graph_fault(model, folder: Path) -> str:
    """The fault of one ONNX model, as the end of a sentence; "" when there is none."""
    for part in _messages(model):
        if part.DESCRIPTOR.name == "TensorProto" and part.data_location == part.EXTERNAL:
            places = [entry.value for entry in part.external_data if entry.key == "location"]
            if len(places) != 1 or not _is_beside(places[0], folder):
                return f"whose constants lie in {', '.join(places) or 'no file'}"
        elif part.DESCRIPTOR.name == "NodeProto" and part.domain in EXTENSIONS:
            if part.op_type not in OURS:
                return f"whose operator {part.op_type} is not one that kerasrnn writes"
    return ""


def _is_beside(place: str, folder: Path) -> bool:
    """Whether a constant's place is a file in the model's folder, after links are followed."""
    # A link in the folder may point outside it.
    file = (folder / place).resolve()
    return (
        not Path(place).is_absolute() and file.is_relative_to(folder.resolve()) and file.is_file()
    )


def _messages(message) -> Iterator:
    """A protobuf message and all messages inside it."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else value


def _saved_model_fault(path: Path) -> str:
    """The fault of a SavedModel, as the end of a sentence; "" when there is none."""
    from kerasrnn.compat.tensorflow import SavedModel

    if (path / "assets.extra" / "needs_tensorflow_text").exists():
        import tensorflow_text  # noqa: F401  (registers the operators)
    saved = SavedModel.FromString((path / GRAPH).read_bytes())
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        return "which is not of TensorFlow 2"
    graph = saved.meta_graphs[0].graph_def
    functions = {f.signature.name: f.node_def for f in graph.library.function}
    if len(functions) != len(graph.library.function):
        return "which has two functions of one name"
    called = {*saved.meta_graphs[0].object_graph_def.concrete_functions}
    called |= {name for nodes in functions.values() for node in nodes for name in _calls(node)}
    called |= {gradient.gradient_func for gradient in graph.library.gradient}
    for name, nodes in [("", graph.node), *functions.items()]:
        # Variables are saved by functions that nothing calls: a loaded model does not run them.
        # Only there are the operators for saving allowed.
        saving = SAVING if name and name not in called else set()
        for node in nodes:
            if node.op not in functions and node.op not in saving and not _is_harmless(node.op):
                return f"whose operator {node.op} may read, write or reach something else"
    return ""


def _calls(node) -> Iterator[str]:
    """The names of functions that a node may call."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _is_harmless(name: str) -> bool:
    """Whether an operator only computes or holds a value; unknown operators are not harmless."""
    from kerasrnn.compat.tensorflow import is_stateful

    stateful = is_stateful(name)
    if stateful is None:
        return False
    if stateful:
        return HOLDING.fullmatch(name) is not None
    return REACHING.search(name) is None
