"""Recurrences traced as markers, in whose place `graphs/recurrence.py` puts ONNX's own operators.

B batch, T time, D input, H units, N directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tensorflow as tf
from keras import tree

from kerasrnn import cells
from kerasrnn.engine.recurrence import Problem
from kerasrnn.export.graphs.operators import Operator, operator_of

NODES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "Scan"}  # what `graphs/recurrence.py` makes of a kind
DOMAIN, MARKER = "kerasrnn", "Recurrence"  # of the marker, which no file ever has


@dataclass(frozen=True)
class Marked:
    """What a marker stands for.

    Attributes:
        operators: one, or those of both directions, the forward one first.
        inputs: names of what the marker reads: "x" [B, T, D] and, where they are there, "mask"
            bool [B, T], "initial_h" and "initial_c" [N, B, H].
        backwards: one operator reads from the last step to the first.
        sequences: the marker gives the outputs [B, T, N H], in the order of time, instead of the
            last ones [B, H] of each direction; behind them every final state [B, H].
        zero_padding: outputs are 0 where the mask is False, and not the ones read before.
        maybe_empty: T is not known, and may be 0.
    """

    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    backwards: bool
    sequences: bool
    zero_padding: bool
    maybe_empty: bool

    @property
    def units(self) -> int:
        return self.operators[0].recurrent_kernel.shape[1]


class Lowering:
    """`lower` of `kerasrnn.engine.recurrence.exporting`, and the handler that tf2onnx then needs.

    A recurrence is traced as a marker, a Python function that nobody calls; tf2onnx makes of it
    a node of no operator set, known by its token in `marked`. `nodes` says by the id of a cell
    which operator a recurrence over it becomes.
    """

    def __init__(self):
        self.marked: dict[str, Marked] = {}
        self.nodes: dict[int, str] = {}
        self.handlers = {"PyFuncStateless": (self.handle, [])}

    def __call__(self, *problems: Problem):
        """(output, states) of each, or None where no operator can express them."""
        bare = [_without_dropout(problem) for problem in problems]
        operators = tuple(operator_of(problem.cell) for problem in bare)
        found = self._lowered(bare, operators)
        for problem, operator in zip(problems, operators, strict=True):
            self.nodes[id(problem.cell)] = "Loop" if found is None else NODES[operator.kind]
        return found

    def _lowered(self, problems: list[Problem], operators: tuple[Operator | None, ...]):
        x = tf.convert_to_tensor(problems[0].x)
        if None in operators or x.shape.rank != 3 or x.shape[1] == 0 or x.dtype != tf.float32:
            return None
        if len(problems) > 1 and not _opposite(problems, operators):
            return None
        first, given = problems[0], {"x": x}
        if first.mask is not None:
            given["mask"] = first.mask
        begun = [tree.flatten(problem.states) for problem in problems]
        if not all(problem.zero_start for problem in problems):
            given["initial_h"] = tf.stack([states[0] for states in begun])
            if len(begun[0]) > 1:
                given["initial_c"] = tf.stack([states[1] for states in begun])
        what = (first.backwards, first.sequences, first.zero_padding, x.shape[1] is None)
        outputs, states = self._marker(Marked(operators, tuple(given), *what), given, len(begun[0]))
        packed = [tree.pack_sequence_as(p.states, s) for p, s in zip(problems, states, strict=True)]
        return list(zip(outputs, packed, strict=True))

    def _marker(self, marked: Marked, given: dict, count: int):
        """The output of each direction, and its `count` final states."""

        def nobody(*arrays):
            raise RuntimeError("a marker of an export was run; it stands for an ONNX operator")

        N, H = len(marked.operators), marked.units
        B, T, _ = given["x"].shape
        shapes = [[B, T, N * H]] if marked.sequences else [[B, H]] * N
        shapes += [[B, H]] * (N * count)
        marker = tf.numpy_function(nobody, [*given.values()], [tf.float32] * len(shapes), False)
        self.marked[marker[0].op.get_attr("token").decode()] = marked
        found = [tf.ensure_shape(m, s) for m, s in zip(marker, shapes, strict=True)]
        outputs, states = found[: -N * count], found[-N * count :]
        if marked.sequences and N > 1:
            outputs = tf.split(outputs[0], N, axis=-1)
        return outputs, [states[i : i + count] for i in range(0, N * count, count)]

    def handle(self, context, node, name, arguments):
        """tf2onnx's custom handler."""
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
    drops = isinstance(problem.cell, cells.Dropout) and not problem.training
    return replace(problem, cell=problem.cell.cell) if drops else problem


def _opposite(problems: list[Problem], operators: tuple[Operator, ...]) -> bool:
    """Whether two recurrences are what ONNX calls one operator in both directions."""
    one, other = problems
    return (
        (one.backwards, other.backwards) == (False, True)
        and one.x is other.x
        and one.mask is other.mask
        and one.sequences == other.sequences
        and (one.mask is None or one.zero_padding or not one.sequences)
        and len({operator.form for operator in operators}) == 1
    )
