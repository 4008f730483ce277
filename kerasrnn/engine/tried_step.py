"""What one step on zeros shows of a cell."""

import keras
from keras import ops, tree

from kerasrnn.cells.base import matmul
from kerasrnn.engine.problem import Product, Spec
from kerasrnn.engine.trial import tried

BATCH = 97  # stands for an unknown batch size where a step is tried on zeros


class TriedStep:
    """A cell's step, tried once on zeros.

    Attributes:
        trial: the `Trial`.
        output: the step's output on zeros, in its structure.
        output_specs: the spec of each of its leaves.
        aliases: for each of them the index of the new state that it is, None where it is none.
        products: what the step multiplies by its weights, in order.
        result_zeros: the spec of every block of their results, every size a number.

    Raises:
        ValueError: when the step fails, or gives states of other shapes than it takes.
    """

    def __init__(self, cell, layout):
        self.cell, self.layout = cell, layout
        try:
            self.trial = tried(self._on_zeros, cell.variables)
        except ValueError as error:  # what TensorFlow says of shapes that do not fit
            raise ValueError(f"{self._failed()}: {error}") from error
        self.output, new, wanted = self.trial.result
        outputs = tree.flatten(self.output)
        self.output_specs = [self._spec(o) for o in outputs]
        self.aliases = [next((i for i, n in enumerate(new) if n is o), None) for o in outputs]
        new, wanted = ([self._spec(s).shape for s in states] for states in (new, wanted))
        if new != wanted:
            raise ValueError(
                f"{type(cell).__name__}.step: expected a new state of shapes {wanted} "
                f"(None: any), as state_size={cell.state_size} says, received {new}; "
                "return (output, new_state) with the state's own structure."
            )

    def step(self, scanned, fixed, states, linear):
        """One step on flat lists: (output, new states)."""
        z, state, constants = self.layout.arguments(scanned, fixed, states)
        result = self.cell.step(z, state, linear, *constants)
        if not isinstance(result, tuple | list) or len(result) != 2:
            received = f"{len(result)} values" if isinstance(result, tuple | list) else "one tensor"
            raise ValueError(
                f"{type(self.cell).__name__}.step: expected (output, new_state), received "
                f"{received}; several outputs or states come as one tuple each."
            )
        output, new = result
        return output, tree.flatten(new)

    def only_outputs(self, values):
        """Of the leaves of an output those that are no new state."""
        return [v for v, alias in zip(values, self.aliases, strict=True) if alias is None]

    def zeros(self):
        """Zeros in place of (scanned, fixed, states) of one step, every size a number."""
        layout = self.layout
        sizes = [s.shape[0] for s in layout.states] + [z.shape[1] for z in layout.scanned]
        self.batch = next((b for b in sizes if b is not None), None)
        leaves = [*layout.scanned, *layout.fixed, *layout.states, *self.cell.variables]
        known = {n for leaf in leaves for n in leaf.shape}
        # Stands for every other unknown size; unlike any known one, so that it can be told apart.
        self.other = next(n for n in range(89, 89 + len(known) + 1) if n not in known)

        def like(tensor, shape):
            lead, rest = shape[:1], shape[1:]
            lead = tuple((self.batch or BATCH) if n is None else n for n in lead)
            rest = tuple(self.other if n is None else n for n in rest)
            return ops.zeros(lead + rest, dtype=tensor.dtype)

        scanned = [like(z, tuple(z.shape[1:])) for z in layout.scanned]
        fixed = [like(c, tuple(c.shape)) for c in layout.fixed]
        return scanned, fixed, [like(s, tuple(s.shape)) for s in layout.states]

    def zero_results(self):
        """Zeros in place of every product's blocks, to go with `zeros`."""
        return [ops.zeros(spec.shape, dtype=spec.dtype) for spec in self.result_zeros]

    def result_specs(self):
        """The spec of every block of every product."""
        return [p.output for p in self.products for _ in range(p.blocks)]

    def prepared(self, value=lambda weight: weight.value):
        """The weight of every product, read, cast and cut once, outside the loop."""
        return [ops.cast(p.select(value(p.weight)), p.output.dtype) for p in self.products]

    @staticmethod
    def plain_linear(weights):
        """The `linear` of one step, by the order of its calls."""
        rest = iter(weights)
        return lambda h, weight, columns=None, blocks=1: matmul(h, next(rest), blocks=blocks)

    def _on_zeros(self):
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

        return *self.step(scanned, fixed, states, linear), states

    def _spec(self, tensor):
        """The spec of a tensor that was made from `zeros`."""
        shape = tuple(None if n == self.other else n for n in tensor.shape)
        if self.batch is None and shape and shape[0] == BATCH:
            shape = (None, *shape[1:])
        return Spec(shape, keras.backend.standardize_dtype(tensor.dtype))

    def _failed(self):
        """Where a trial failed, with the shapes it was given, in words."""
        z, state, _ = self.layout.structure
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
