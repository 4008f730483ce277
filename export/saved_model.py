"""Writes traced functions as a SavedModel that plain TensorFlow loads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from kerasrnn.engine.recurrence import exporting
from kerasrnn.export.quiet import quiet

NEEDS_TEXT = Path("assets.extra") / "needs_tensorflow_text"


class _SavedModule(tf.Module):
    """Holds the objects that the functions capture, so that they are saved too."""

    def __init__(self, functions, *captured):
        super().__init__()
        self.functions, self.captured = functions, captured


def write(
    signatures: dict[str, tuple[Callable, Sequence[tf.TensorSpec]]],
    captured: list,
    path: Path,
) -> None:
    """Save functions as signatures with the given names.

    Args:
        signatures: by name, (function from tensors to tensors by name, specs of its inputs).
        captured: variables and tokenizers that the functions use.
        path: the folder to write.
    """
    # Two names of the same function share one graph.
    unique = {
        signature: tf.function(signature[0], input_signature=signature[1])
        for signature in signatures.values()
    }
    functions = {name: unique[signature] for name, signature in signatures.items()}
    with exporting(), tf.device("CPU"):
        module = _SavedModule(functions, *captured)
        _save(module, path, functions)
    if any(_uses_text(serve.get_concrete_function()) for serve in functions.values()):
        (path / NEEDS_TEXT).parent.mkdir(exist_ok=True)
        (path / NEEDS_TEXT).touch()


def _save(module, path: Path, signatures: dict) -> None:
    """Save the module; a full disk is an OSError."""
    try:
        with quiet():
            tf.saved_model.save(module, str(path), signatures=signatures)
    except tf.errors.OpError as error:  # TensorFlow's error for a full disk
        reason = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", error.message).strip()
        raise OSError(reason) from error


def _uses_text(concrete) -> bool:
    """Whether the graph holds operators of TensorFlow Text."""
    graph = concrete.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any(node.op.startswith(("RegexSplit", "Sentencepiece")) for node in nodes)
