"""The input of the engine: one recurrence, and its tensors in words. B batch, T time, D input."""

from dataclasses import dataclass
from typing import Any

from keras import ops, tree

from kerasrnn.compat.keras import AutocastScope


@dataclass(frozen=True)
class Problem:
    """One recurrence to compute: x [B, T, D], initial states in the cell's structure, a mask.

    The mask is bool [B, T] or None. Where it is False the states keep their values, and the
    output is that of the step before, or 0 with `zero_padding`.
    """

    cell: Any
    x: Any
    states: Any
    mask: Any = None
    constants: tuple = ()
    training: bool = False
    sequences: bool = True  # the outputs of all steps; False for the last one only
    zero_start: bool = True  # False where the initial states may be other than zeros
    backwards: bool = False  # from the last step to the first
    zero_padding: bool = False


@dataclass(frozen=True)
class Spec:
    """The shape (None where unknown) and the dtype of a tensor of one step."""

    shape: tuple
    dtype: str


@dataclass(frozen=True)
class Product:
    """One call of `linear` in a step.

    Attributes:
        weight: its weight variable.
        columns: (start, stop) of the weight's columns; None for all.
        blocks: into how many pieces the result is split.
        state: the index of the state that is its input; None where the input is no state.
        input: the spec of its input.
        output: the spec of one block of its result.
    """

    weight: Any
    columns: tuple | None
    blocks: int
    state: int | None
    input: Spec
    output: Spec

    def select(self, weight):
        """The columns of the value of a weight that this product uses."""
        return weight if self.columns is None else weight[:, self.columns[0] : self.columns[1]]


def time_major(x):
    """Swap the first two axes: [B, T, ...] to [T, B, ...], or back."""
    return ops.swapaxes(x, 0, 1)


def project(problem):
    """z of all steps and the mask, both time first: ([T, B, ...], [T, B] or None).

    Raises:
        ValueError: when no leaf of z has all T time steps.
    """
    cell, T = problem.cell, problem.x.shape[1]
    with AutocastScope(cell.compute_dtype):
        z = cell.project(time_major(problem.x), training=problem.training)
    if T != 1 and all(leaf is None or leaf.shape[0] == 1 for leaf in tree.flatten(z)):
        raise ValueError(
            f"{type(cell).__name__}.project: expected a tensor with all {T or 'T'} time steps "
            "[T, B, ...], received tensors whose time axis is 1, which are shared by all steps; "
            "return at least one that has a value for each step."
        )
    return z, None if problem.mask is None else time_major(problem.mask)
