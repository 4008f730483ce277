"""A traced function -> a SavedModel that plain TensorFlow loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from kerasrnn.engine.recurrence import exporting
from kerasrnn.export.quiet import quiet

NEEDS_TEXT = Path("assets.extra") / "needs_tensorflow_text"


class _Served(tf.Module):
    """What the functions capture, so that it is saved with them."""

    def __init__(self, functions, *captured):
        super().__init__()
        self.functions, self.captured = functions, captured


def write(
    signatures: dict[str, tuple[Callable, Sequence[tf.TensorSpec]]],
    outputs: Sequence[str],
    captured: list,
    path: Path,
) -> None:
    """Save functions as the signatures of these names.

    Args:
        signatures: by name, tensors -> a tuple of tensors, and what its inputs are.
        outputs: names of what all of them give.
        captured: variables and tokenizers that they use.
        path: the folder to write.
    """

    def named(function, signature):
        def serve(*inputs):
            return dict(zip(outputs, function(*inputs), strict=True))

        return tf.function(serve, input_signature=signature)

    once = {given: named(*given) for given in signatures.values()}  # two names, one graph
    made = {name: once[given] for name, given in signatures.items()}
    with exporting(), tf.device("CPU"):
        module = _Served(made, *captured)
        _save(module, path, made)
    if any(_uses_text(serve.get_concrete_function()) for serve in made.values()):
        (path / NEEDS_TEXT).parent.mkdir(exist_ok=True)
        (path / NEEDS_TEXT).touch()


def _save(module, path: Path, signatures: dict) -> None:
    try:
        with quiet():
            tf.saved_model.save(module, str(path), signatures=signatures)
    except tf.errors.OpError as error:  # a disk that is full, in TensorFlow's words
        reason = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", error.message).strip()
        raise OSError(reason) from error


def _uses_text(concrete) -> bool:
    """Whether the graph holds operators of TensorFlow Text."""
    graph = concrete.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any(node.op.startswith(("RegexSplit", "Sentencepiece")) for node in nodes)
