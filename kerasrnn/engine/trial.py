"""A function tried where nothing that it does lasts: its result, and its side effects in words.

The engine tries a cell's step before it runs it: the result tells the shapes, and side effects
tell that the step cannot be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

# Stateful for TensorFlow, but they only read.
READS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"}
# They call functions, which are looked through too.
CALLS = {"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"}
SEED = "seed_generator_state"  # Keras's name for what every random number moves on


@dataclass(frozen=True)
class Trial:
    """What a function gave, and what it would have done beside that.

    Attributes:
        result: its result; on TensorFlow, tensors of a graph that nobody runs.
        side_effects: each in words; none of them was done.
        constants: the numbers that Python put into the graph, as bytes; TensorFlow only.
    """

    result: Any
    side_effects: tuple[str, ...]
    constants: tuple[bytes, ...] = ()


class _Recorder(keras.StatelessScope):
    """Notes which Keras variables are assigned, and assigns none; `variables` read as zeros."""

    def __init__(self, variables):
        super().__init__([(v, ops.zeros(v.shape, dtype=v.dtype)) for v in variables])
        self.assigned = []

    def add_update(self, update):
        super().add_update(update)
        self.assigned.append(update[0])

    def side_effects(self) -> list[str]:
        """Each assignment in words."""
        return [
            "draws a random number" if v.name == SEED else f"assigns the variable '{v.name}'"
            for v in self.assigned
        ]


def tried(function: Callable[[], Any], variables: Iterable[keras.Variable] = ()) -> Trial:
    """Run `function`, whatever it assigns or draws undone.

    Args:
        function: what is tried.
        variables: read as zeros, so that inside another graph nothing is captured.

    >>> counter = keras.Variable(0.0, name="counter")
    >>> tried(lambda: counter.assign_add(1.0)).side_effects, float(counter.value)
    (("assigns the variable 'counter'",), 0.0)
    """
    if keras.backend.backend() == "tensorflow":
        return _traced(function, variables)
    with _Recorder(variables) as recorder:
        result = function()
    return Trial(result, tuple(recorder.side_effects()))


def _traced(function, variables) -> Trial:
    import tensorflow as tf

    found = {}

    def body():
        with _Recorder(variables) as recorder:
            found["result"] = function()
        found["effects"] = recorder.side_effects()

    # A graph of its own: TensorFlow's random numbers and variables are not touched either.
    graph = tf.function(body, autograph=False).get_concrete_function().graph
    effects = [*found["effects"], *_stateful(graph)]
    constants = [op.get_attr("value") for op in graph.get_operations() if op.type == "Const"]
    return Trial(
        found["result"],
        tuple(dict.fromkeys(effects)),
        tuple(constant.SerializeToString() for constant in constants),
    )


def _stateful(graph) -> list[str]:
    """TensorFlow's operators that do more than give a result, in words."""
    from kerasrnn.compat.tensorflow import is_stateful

    definition = graph.as_graph_def()
    functions = definition.library.function
    nodes = [*definition.node, *(node for function in functions for node in function.node_def)]
    names = {function.signature.name for function in functions}
    return [
        f"runs TensorFlow's {node.op}"
        for node in nodes
        if node.op not in READS | CALLS | names and is_stateful(node.op)
    ]
