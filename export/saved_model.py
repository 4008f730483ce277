"""A traced function -> a SavedModel that plain TensorFlow loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

NEEDS_TEXT = Path("assets.extra") / "needs_tensorflow_text"


class _Served(tf.Module):
    """What the function captures, so that it is saved with it."""

    def __init__(self, function, *captured):
        super().__init__()
        self.serve, self.captured = function, captured


def write(
    function: Callable,
    signature: list[tf.TensorSpec],
    outputs: list[str],
    captured: list,
    path: Path,
) -> None:
    """Save `function` as the signature `serving_default`.

    Args:
        function: tensors -> a tuple of tensors.
        signature: names, shapes and dtypes of its inputs.
        outputs: names of its outputs.
        captured: variables and tokenizers that it uses.
        path: the folder to write.
    """

    @tf.function(input_signature=signature)
    def serve(*inputs):
        return dict(zip(outputs, function(*inputs), strict=True))

    with tf.device("CPU"):
        module = _Served(serve, *captured)
        tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    if _uses_text(serve.get_concrete_function()):
        (path / NEEDS_TEXT).parent.mkdir(exist_ok=True)
        (path / NEEDS_TEXT).touch()


def _uses_text(concrete) -> bool:
    """Whether the graph holds operators of TensorFlow Text."""
    graph = concrete.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any(node.op.startswith(("RegexSplit", "Sentencepiece")) for node in nodes)
