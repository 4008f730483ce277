"""What the engine computes. B batch, T time, D input."""

from dataclasses import dataclass
from typing import Any

from keras import ops, tree

from kerasrnn.compat.keras import AutocastScope


@dataclass(frozen=True)
class Problem:
    """One recurrence to compute: x [B, T, D], states as the cell's, mask [B, T] bool or None.

    Where the mask is False, an output repeats the one before it, or is 0 with `zero_padding`.
    """

    cell: Any
    x: Any
    states: Any
    mask: Any = None
    constants: tuple = ()
    training: bool = False
    sequences: bool = True
    zero_start: bool = True  # False where the states may be anything but zeros
    backwards: bool = False  # from the last step to the first
    zero_padding: bool = False


@dataclass(frozen=True)
class Spec:
    """Shape (None where unknown) and dtype of a tensor of one step."""

    shape: tuple
    dtype: str


@dataclass(frozen=True)
class Product:
    """One `linear` of a step: its weight, and the state that is its input, if one is."""

    weight: Any
    columns: tuple | None
    blocks: int
    state: int | None
    input: Spec
    output: Spec  # of a block

    def select(self, weight):
        """The columns of a weight's value that this product uses."""
        return weight if self.columns is None else weight[:, self.columns[0] : self.columns[1]]


def time_major(x):
    """[B, T, ...] to [T, B, ...], or back."""
    return ops.swapaxes(x, 0, 1)


def project(problem):
    """z of all steps, time first, and the mask likewise."""
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
