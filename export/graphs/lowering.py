"""Traces recurrences as markers, which `graphs/recurrence.py` replaces by ONNX's own operators.

B batch, T time, D input, H units, N directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tensorflow as tf
from keras import tree

from kerasrnn import cells
from kerasrnn.engine.recurrence import Problem
from kerasrnn.export.graphs.operators import Operator, operator_of

NODES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "Scan"}  # kind of operator -> node in the file
DOMAIN, MARKER = "kerasrnn", "Recurrence"  # of the marker, which no written file has


@dataclass(frozen=True)
class MarkedRecurrence:
    """The recurrence that a marker stands for.

    Attributes:
        operators: one operator, or two for both directions, the forward one first.
        inputs: names of the marker's inputs: "x" [B, T, D] and, if present, "mask" bool [B, T],
            "initial_h" and "initial_c" [N, B, H].
        backwards: the only operator reads from the last step to the first.
        sequences: True: the first output is [B, T, N H], in the order of time. False: the first
            outputs are the last ones, [B, H] for each direction. All final states [B, H] follow.
        zero_padding: True: outputs are 0 where the mask is False. False: they repeat the output of
            the step read before.
        maybe_empty: T is unknown and may be 0.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    backwards: bool
    sequences: bool
    zero_padding: bool
    maybe_empty: bool

    @property
    def units(self) -> int:
        """H, the units of each direction."""
        return self.operators[0].recurrent_kernel.shape[1]


class Lowering:
    """The `lower` of `kerasrnn.engine.recurrence.exporting`, and the handler that tf2onnx needs.

    A recurrence is traced as a marker, a Python function that is never called. tf2onnx turns it
    into a node outside every operator set, whose token is its key in `marked`. `nodes` has, by the
    id of a cell, the operator that its recurrence becomes.
    """

    def __init__(self):
        self.marked: dict[str, MarkedRecurrence] = {}
        self.nodes: dict[int, str] = {}
        self.handlers = {"PyFuncStateless": (self.handle, [])}

    def __call__(self, *problems: Problem):
        """(output, states) of each recurrence, or None where no operator can express them."""
        plain = [_without_dropout(problem) for problem in problems]
        operators = tuple(operator_of(problem.cell) for problem in plain)
        lowered = self._lowered(plain, operators)
        for problem, operator in zip(problems, operators, strict=True):
            self.nodes[id(problem.cell)] = "Loop" if lowered is None else NODES[operator.kind]
        return lowered

    def _lowered(self, problems: list[Problem], operators: tuple[Operator | None, ...]):
        """(output, states) of each recurrence as outputs of one marker, or None."""
        x = tf.convert_to_tensor(problems[0].x)
        if None in operators or x.shape.rank != 3 or x.shape[1] == 0 or x.dtype != tf.float32:
            return None
        if len(problems) > 1 and not _opposite(problems, operators):
            return None
        first, inputs = problems[0], {"x": x}
        if first.mask is not None:
            inputs["mask"] = first.mask
        initial_states = [tree.flatten(problem.states) for problem in problems]
        if not all(problem.zero_start for problem in problems):
            inputs["initial_h"] = tf.stack([states[0] for states in initial_states])
            if len(initial_states[0]) > 1:
                inputs["initial_c"] = tf.stack([states[1] for states in initial_states])
        options = (first.backwards, first.sequences, first.zero_padding, x.shape[1] is None)
        outputs, states = self._marker(
            MarkedRecurrence(operators, tuple(inputs), *options), inputs, len(initial_states[0])
        )
        packed = [tree.pack_sequence_as(p.states, s) for p, s in zip(problems, states, strict=True)]
        return list(zip(outputs, packed, strict=True))

    def _marker(self, marked: MarkedRecurrence, inputs: dict, count: int):
        """Trace a marker: the output of each direction, and its `count` final states."""

        def never_called(*arrays):
            raise RuntimeError("a marker of an export was run; it stands for an ONNX operator")

        N, H = len(marked.operators), marked.units
        B, T, _ = inputs["x"].shape
        shapes = [[B, T, N * H]] if marked.sequences else [[B, H]] * N
        shapes += [[B, H]] * (N * count)
        # The last argument makes it stateless: `handlers` knows it as PyFuncStateless.
        marker = tf.numpy_function(
            never_called, [*inputs.values()], [tf.float32] * len(shapes), False
        )
        self.marked[marker[0].op.get_attr("token").decode()] = marked
        # A Python function's outputs have no static shape.
        tensors = [tf.ensure_shape(m, s) for m, s in zip(marker, shapes, strict=True)]
        outputs, states = tensors[: -N * count], tensors[-N * count :]
        if marked.sequences and N > 1:
            outputs = tf.split(outputs[0], N, axis=-1)
        return outputs, [states[i : i + count] for i in range(0, N * count, count)]

    def handle(self, context, node, name, arguments):
        """Turn a traced marker into a node of our domain (a custom handler of tf2onnx)."""
        inputs, outputs, token = node.input, node.output, node.get_attr_str("token")
        dtypes = [context.get_dtype(output) for output in outputs]
        shapes = [context.get_shape(output) for output in outputs]
        context.remove_node(node.name)
        context.make_node(
            MARKER,
            inputs,
            attr={"token": token},
            outputs=outputs,
            name=name,
            shapes=shapes,
            dtypes=dtypes,
            domain=DOMAIN,
        )


def _without_dropout(problem: Problem) -> Problem:
    """The recurrence without its dropout, which does nothing outside of training."""
    drops = isinstance(problem.cell, cells.Dropout) and not problem.training
    return replace(problem, cell=problem.cell.cell) if drops else problem


def _opposite(problems: list[Problem], operators: tuple[Operator, ...]) -> bool:
    """Whether two recurrences form one bidirectional ONNX operator."""
    first, second = problems
    return (
        (first.backwards, second.backwards) == (False, True)
        and first.x is second.x
        and first.mask is second.mask
        and first.sequences == second.sequences
        # Otherwise masked steps repeat other steps in each direction: `Mask.places` finds one only.
        and (first.mask is None or first.zero_padding or not first.sequences)
        and len({operator.form for operator in operators}) == 1
    )
