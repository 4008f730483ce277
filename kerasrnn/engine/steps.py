"""A cell's step on flat lists of tensors.

B batch, T time, H units. Inside the engine time comes first: [T, B, ...].
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from kerasrnn.cells.base import matmul
from kerasrnn.compat.keras import AutocastScope
from kerasrnn.engine.trial import tried

BATCH = 97  # stands for an unknown batch size where a step is tried on zeros


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


def _shared_leaves(leaves):
    """For each leaf of z whether it is the same for all steps: its time axis is 1, T is not."""
    lengths = {leaf.shape[0] for leaf in leaves if leaf is not None}
    return [leaf is not None and leaf.shape[0] == 1 and lengths != {1} for leaf in leaves]


def _where(mask_t, new, old):
    """new where mask_t [B] is True, old elsewhere."""
    return ops.where(ops.reshape(mask_t, (-1,) + (1,) * (len(new.shape) - 1)), new, old)


class Steps:
    """A cell's step on flat lists of tensors, with masking folded in.

    Where the mask is False a state keeps its value and an output repeats the one before (zeros
    at first). An output that is one of the new states needs no place of its own; any other is
    carried as one more state, `held`, where a mask or the last output asks for it.
    """

    def __init__(self, cell, z, states, constants, mask, sequences):
        self.cell, self.sequences = cell, sequences
        self.masked = mask is not None
        self.structure = (z, states, tuple(constants))
        leaves = tree.flatten(z)
        self.shared = _shared_leaves(leaves)
        pairs = [(leaf, s) for leaf, s in zip(leaves, self.shared, strict=True) if leaf is not None]
        self.scanned = [leaf for leaf, shared in pairs if not shared]
        self.fixed = [leaf[0] for leaf, shared in pairs if shared]
        self.fixed += [c for c in tree.flatten(self.structure[2]) if c is not None]
        self.states = tree.flatten(states)
        self.count = len(self.states)
        self._try()
        if self.masked:
            self.scanned = [*self.scanned, mask]
        self.holds = self.masked or not sequences
        if self.holds:
            self.states = self.states + self._held()

    def __call__(self, scanned, fixed, states, linear):
        """One step: (new states with the held outputs, outputs that are no state)."""
        mask_t = scanned[-1] if self.masked else None
        new, own = self.flat_step(scanned, fixed, states[: self.count], linear)
        if self.holds:
            new, own = new + own, []
        if self.masked:
            new = [_where(mask_t, n, old) for n, old in zip(new, states, strict=True)]
        return new, own

    def flat_step(self, scanned, fixed, states, linear):
        """The cell's own step: (new states, outputs that are no state)."""
        output, new = self._step(scanned, fixed, states, linear)
        return new, [
            o for o, a in zip(tree.flatten(output), self.aliases, strict=True) if a is None
        ]

    def distribute(self, scanned, fixed):
        """Values by index of scanned and of fixed leaves, as lists over z and over constants."""
        z, _, constants = self.structure
        i, j, found = 0, 0, []
        for leaf, shared in zip(tree.flatten(z), self.shared, strict=True):
            if leaf is None:
                found.append(None)
            elif shared:
                found.append(None if j not in fixed else fixed[j][None])
                j += 1
            else:
                found.append(scanned.get(i))
                i += 1
        rest = iter(range(j, len(self.fixed)))
        return found, [
            None if c is None else fixed.get(next(rest)) for c in tree.flatten(constants)
        ]

    def place(self, j):
        """Where output leaf j is found: ("state", i) or ("own", i)."""
        if self.aliases[j] is not None:
            return "state", self.aliases[j]
        i = self.aliases[:j].count(None)
        return ("state", self.count + i) if self.holds else ("own", i)

    def result(self, finals, stacks, own):
        """(output, states) in their structures; stacks: {state index: its values [T, B, ...]}."""
        source = stacks if self.sequences else finals
        places = [self.place(j) for j in range(len(self.aliases))]
        found = [source[i] if kind == "state" else own[i] for kind, i in places]
        output = tree.pack_sequence_as(self.output, found)
        return output, tree.pack_sequence_as(self.structure[1], list(finals[: self.count]))

    def emitted(self):
        """Indices of the states that are outputs at every step."""
        places = [self.place(j) for j in range(len(self.aliases))]
        return sorted({i for kind, i in places if kind == "state"}) if self.sequences else []

    def output_of(self, state):
        """The output leaf that is this state."""
        places = [self.place(j) for j in range(len(self.aliases))]
        return places.index(("state", state))

    def own_specs(self):
        """Specs of the outputs that have to be stacked beside the states."""
        own = [s for s, a in zip(self.output_specs, self.aliases, strict=True) if a is None]
        return [] if self.holds else own

    def state_specs(self):
        return [Spec(tuple(s.shape), keras.backend.standardize_dtype(s.dtype)) for s in self.states]

    def _step(self, scanned, fixed, states, linear):
        z, state, constants = self.structure
        scanned, fixed = iter(scanned), iter(fixed)
        z_t = [
            None if leaf is None else next(fixed if shared else scanned)
            for leaf, shared in zip(tree.flatten(z), self.shared, strict=True)
        ]
        constants_t = [None if c is None else next(fixed) for c in tree.flatten(constants)]
        result = self.cell.step(
            tree.pack_sequence_as(z, z_t),
            tree.pack_sequence_as(state, list(states)),
            linear,
            *tree.pack_sequence_as(constants, constants_t),
        )
        if not isinstance(result, tuple | list) or len(result) != 2:
            received = f"{len(result)} values" if isinstance(result, tuple | list) else "one tensor"
            raise ValueError(
                f"{type(self.cell).__name__}.step: expected (output, new_state), received "
                f"{received}; several outputs or states come as one tuple each."
            )
        output, new = result
        return output, tree.flatten(new)

    def _try(self):
        """Try one step on zeros to learn which products it has and which outputs are states."""
        try:
            self.trial = tried(self._tried, self.cell.variables)
        except ValueError as error:  # what TensorFlow says of shapes that do not fit
            raise ValueError(f"{self._failed()}: {error}") from error
        self.output, new, wanted = self.trial.result
        outputs = tree.flatten(self.output)
        self.output_specs = [self._spec(o) for o in outputs]
        self.aliases = [next((i for i, n in enumerate(new) if n is o), None) for o in outputs]
        new, wanted = ([self._spec(s).shape for s in states] for states in (new, wanted))
        if new != wanted:
            raise ValueError(
                f"{type(self.cell).__name__}.step: expected a new state of shapes {wanted} "
                f"(None: any), as state_size={self.cell.state_size} says, received {new}; "
                "return (output, new_state) with the state's own structure."
            )

    def _failed(self):
        """Where a trial failed, with the shapes it was given, in words."""
        z, state, _ = self.structure
        shapes = [
            [(None, *leaf.shape[lead:]) for leaf in tree.flatten(part) if leaf is not None]
            for part, lead in ((z, 2), (state, 1))
        ]
        axes = max(len(shape) for shape in shapes[0]) > 2
        hint = " (one feature axis is usual: [batch, time, features])" if axes else ""
        return (
            f"{type(self.cell).__name__}.step failed on z of shapes {shapes[0]}{hint} and a state "
            f"of shapes {shapes[1]}"
        )

    def _tried(self):
        """One step on zeros: (output, new states, states); notes its products and the shapes of
        their results."""
        self.products, self.result_zeros = [], []
        scanned, fixed, states = self.zeros()

        def linear(h, weight, columns=None, blocks=1):
            width = weight.shape[1] if columns is None else columns[1] - columns[0]
            shape = (*h.shape[:-1], width // blocks)
            y = [ops.zeros(shape, dtype=h.dtype) for _ in range(blocks)]
            source = next((i for i, s in enumerate(states) if s is h), None)
            input, output = self._spec(h), self._spec(y[0])
            output = Spec((*output.shape[:-1], width // blocks), output.dtype)
            self.products.append(Product(weight, columns, blocks, source, input, output))
            self.result_zeros.extend([Spec(shape, output.dtype)] * blocks)
            return y[0] if blocks == 1 else y

        return *self._step(scanned, fixed, states, linear), states

    def zero_results(self):
        """Zeros in place of every product's blocks, to go with `zeros`."""
        return [ops.zeros(spec.shape, dtype=spec.dtype) for spec in self.result_zeros]

    def zeros(self):
        """Zeros in place of (scanned, fixed, states) of one step, every size a number."""
        sizes = [s.shape[0] for s in self.states] + [z.shape[1] for z in self.scanned]
        self.batch = next((b for b in sizes if b is not None), None)
        known = {
            n for group in (self.scanned, self.fixed, self.states) for x in group for n in x.shape
        }
        known |= {n for w in self.cell.variables for n in w.shape}
        # Stands for every other unknown size; unlike any known one, so that it can be told apart.
        self.other = next(n for n in range(89, 89 + len(known) + 1) if n not in known)

        def like(tensor, shape):
            lead, rest = shape[:1], shape[1:]
            lead = tuple((self.batch or BATCH) if n is None else n for n in lead)
            rest = tuple(self.other if n is None else n for n in rest)
            return ops.zeros(lead + rest, dtype=tensor.dtype)

        scanned = [like(z, tuple(z.shape[1:])) for z in self.scanned]
        fixed = [like(c, tuple(c.shape)) for c in self.fixed]
        return scanned, fixed, [like(s, tuple(s.shape)) for s in self.states[: self.count]]

    def _spec(self, tensor):
        """The spec of a tensor that was made from `zeros`."""
        shape = tuple(None if n == self.other else n for n in tensor.shape)
        if self.batch is None and shape and shape[0] == BATCH:
            shape = (None, *shape[1:])
        return Spec(shape, keras.backend.standardize_dtype(tensor.dtype))

    def _held(self):
        """Zeros for the outputs that are carried as states."""
        specs = [s for s, a in zip(self.output_specs, self.aliases, strict=True) if a is None]
        if all(None not in s.shape[1:] for s in specs):
            batch = ops.shape(self.states[0])[0]
            return [ops.zeros((batch, *s.shape[1:]), dtype=s.dtype) for s in specs]
        first = [ops.zeros_like(z[0]) for z in self.scanned]
        linear = self.plain_linear(self.prepared())
        output, _ = self._step(first, self.fixed, self.states, linear)
        pairs = zip(tree.flatten(output), self.aliases, strict=True)
        return [ops.zeros_like(o) for o, alias in pairs if alias is None]

    def prepared(self, value=lambda weight: weight.value):
        """The weight of every product, read, cast and cut once, outside the loop."""
        return [ops.cast(p.select(value(p.weight)), p.output.dtype) for p in self.products]

    @staticmethod
    def plain_linear(weights):
        """The `linear` of one step, by the order of its calls."""
        rest = iter(weights)
        return lambda h, weight, columns=None, blocks=1: matmul(h, next(rest), blocks=blocks)

    def result_specs(self):
        """The spec of every block of every product."""
        return [p.output for p in self.products for _ in range(p.blocks)]
