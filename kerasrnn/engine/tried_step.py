"""A cell's step tried on zeros: its shapes, its products, its outputs that are states."""

import keras
from keras import ops, tree

from kerasrnn.cells.base import matmul
from kerasrnn.engine.problem import Product, Spec
from kerasrnn.engine.trial import run_trial

BATCH = 97  # in place of an unknown batch size, where a step is tried on zeros


class TriedStep:
    """A cell's step, tried once on zeros.

    Attributes:
        trial: the `Trial`.
        output: the step's output on zeros, in the structure of the cell.
        output_specs: the spec of each leaf of the output.
        aliases: for each leaf of the output, the index of the new state that is the same tensor;
            None where no state is.
        products: a `Product` for each call of `linear`, in order.
        result_zeros: the spec of every block of the products, with a number for every size.

    Raises:
        ValueError: when the step fails, or returns states of other shapes than it takes.
    """

    def __init__(self, cell, layout):
        self.cell, self.layout = cell, layout
        try:
            self.trial = run_trial(self._on_zeros, cell.variables)
        except ValueError as error:  # TensorFlow raises it where shapes do not fit
            raise ValueError(f"{self._failed()}: {error}") from error
        self.output, new_states, states = self.trial.result
        outputs = tree.flatten(self.output)
        self.output_specs = [self._spec(o) for o in outputs]
        self.aliases = [
            next((i for i, state in enumerate(new_states) if state is o), None) for o in outputs
        ]
        received, expected = ([self._spec(s).shape for s in x] for x in (new_states, states))
        if received != expected:
            raise ValueError(
                f"{type(cell).__name__}.step: expected a new state of shapes {expected} "
                f"(None: any), as state_size={cell.state_size} says, received {received}; "
                "return (output, new_state) with the state's own structure."
            )

    def step(self, scanned, fixed, states, linear):
        """One step on flat lists: (output in its structure, list of the new states)."""
        z, state, constants = self.layout.arguments(scanned, fixed, states)
        result = self.cell.step(z, state, linear, *constants)
        if not isinstance(result, tuple | list) or len(result) != 2:
            received = f"{len(result)} values" if isinstance(result, tuple | list) else "one tensor"
            raise ValueError(
                f"{type(self.cell).__name__}.step: expected (output, new_state), received "
                f"{received}; several outputs or states come as one tuple each."
            )
        output, new_state = result
        return output, tree.flatten(new_state)

    def only_outputs(self, values):
        """Those values, one for each leaf of the output, whose leaf is not a new state."""
        return [v for v, alias in zip(values, self.aliases, strict=True) if alias is None]

    def zeros(self):
        """Zeros in place of (scanned, fixed, states) of one step, with a number for every size."""
        layout = self.layout
        batches = [s.shape[0] for s in layout.states] + [z.shape[1] for z in layout.scanned]
        self.batch = next((b for b in batches if b is not None), None)
        leaves = [*layout.scanned, *layout.fixed, *layout.states, *self.cell.variables]
        sizes = {n for leaf in leaves for n in leaf.shape}
        # In place of every unknown size but the batch's. It differs from all known sizes, so that
        # `_spec` recognizes it in the shapes of the result.
        self.unknown_size = next(n for n in range(89, 89 + len(sizes) + 1) if n not in sizes)

        def like(tensor, shape):
            batch, features = shape[:1], shape[1:]
            batch = tuple((self.batch or BATCH) if n is None else n for n in batch)
            features = tuple(self.unknown_size if n is None else n for n in features)
            return ops.zeros(batch + features, dtype=tensor.dtype)

        scanned = [like(z, tuple(z.shape[1:])) for z in layout.scanned]
        fixed = [like(c, tuple(c.shape)) for c in layout.fixed]
        return scanned, fixed, [like(s, tuple(s.shape)) for s in layout.states]

    def zero_results(self):
        """Zeros in place of every block of the products, of the sizes of `zeros`."""
        return [ops.zeros(spec.shape, dtype=spec.dtype) for spec in self.result_zeros]

    def result_specs(self):
        """The spec of every block of every product; unknown sizes are None."""
        return [p.output for p in self.products for _ in range(p.blocks)]

    def prepare(self, value=lambda weight: weight.value):
        """The weight of every product, read, cast and cut to its columns once, before the loop."""
        return [ops.cast(p.select(value(p.weight)), p.output.dtype) for p in self.products]

    @staticmethod
    def plain_linear(weights):
        """The `linear` of one step, which takes the prepared weights in the order of its calls."""
        prepared = iter(weights)
        return lambda h, weight, columns=None, blocks=1: matmul(h, next(prepared), blocks=blocks)

    def _on_zeros(self):
        """One step on zeros: (output, new states, states).

        It fills `products` and `result_zeros`.
        """
        self.products, self.result_zeros = [], []
        scanned, fixed, states = self.zeros()

        def linear(h, weight, columns=None, blocks=1):
            width = weight.shape[1] if columns is None else columns[1] - columns[0]
            shape = (*h.shape[:-1], width // blocks)
            y = [ops.zeros(shape, dtype=h.dtype) for _ in range(blocks)]
            # Whether h is a state is seen by identity: a cell that computes with it makes another.
            source = next((i for i, s in enumerate(states) if s is h), None)
            input, output = self._spec(h), self._spec(y[0])
            output = Spec((*output.shape[:-1], width // blocks), output.dtype)
            self.products.append(Product(weight, columns, blocks, source, input, output))
            self.result_zeros.extend([Spec(shape, output.dtype)] * blocks)
            return y[0] if blocks == 1 else y

        return *self.step(scanned, fixed, states, linear), states

    def _spec(self, tensor):
        """The spec of a tensor computed from `zeros`, with None again for unknown sizes."""
        shape = tuple(None if n == self.unknown_size else n for n in tensor.shape)
        if self.batch is None and shape and shape[0] == BATCH:
            shape = (None, *shape[1:])
        return Spec(shape, keras.backend.standardize_dtype(tensor.dtype))

    def _failed(self):
        """The beginning of an error message: the step failed, on these shapes."""
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
