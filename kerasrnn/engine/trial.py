"""Runs a function on trial, without lasting effect: its result, and its side effects in words.

The engine tries a cell's step before it runs it. The result shows the shapes; a side effect means
that the step cannot be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

# TensorFlow counts these operators as stateful, but they only read.
READS = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"}
# These operators call functions; the operators inside those functions are examined too.
CALLS = {"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"}
SEED = "seed_generator_state"  # Keras's name of the variable that every random draw advances


@dataclass(frozen=True)
class Trial:
    """The result of a function on trial, and the side effects that it would have had.

    Attributes:
        result: the function's result; on TensorFlow, tensors of a graph that never runs.
        side_effects: each in words. None of them happened.
        constants: the constants that Python put into the graph, serialized; TensorFlow only.
    """

    result: Any
    side_effects: tuple[str, ...]
    constants: tuple[bytes, ...] = ()


class _Recorder(keras.StatelessScope):
    """Records assignments to Keras variables and undoes them; `variables` read as zeros."""

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


def run_trial(function: Callable[[], Any], variables: Iterable[keras.Variable] = ()) -> Trial:
    """Run `function` and undo what it assigns and draws: the `Trial`.

    Args:
        function: the function to try, without arguments.
        variables: Keras variables that read as zeros, so that a trial inside another graph
            captures none of its tensors.

    >>> counter = keras.Variable(0.0, name="counter")
    >>> run_trial(lambda: counter.assign_add(1.0)).side_effects, float(counter.value)
    (("assigns the variable 'counter'",), 0.0)
    """
    if keras.backend.backend() == "tensorflow":
        return _traced(function, variables)
    with _Recorder(variables) as recorder:
        result = function()
    return Trial(result, tuple(recorder.side_effects()))


def _traced(function, variables) -> Trial:
    """`run_trial` on TensorFlow: trace the function into a graph and examine the graph."""
    import tensorflow as tf

    record = {}

    def body():
        with _Recorder(variables) as recorder:
            record["result"] = function()
        record["effects"] = recorder.side_effects()

    # In a separate graph, which never runs, TensorFlow's random numbers and variables stay as
    # they are too.
    graph = tf.function(body, autograph=False).get_concrete_function().graph
    effects = [*record["effects"], *_stateful(graph)]
    constants = [op.get_attr("value") for op in graph.get_operations() if op.type == "Const"]
    return Trial(
        record["result"],
        tuple(dict.fromkeys(effects)),  # each once, in order
        tuple(constant.SerializeToString() for constant in constants),
    )


def _stateful(graph) -> list[str]:
    """The operators of a graph that have a side effect, each in words."""
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
