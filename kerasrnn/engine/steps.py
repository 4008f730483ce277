"""A cell's step as the loops over time run it: on flat lists, with the mask folded in.

B batch, T time, H units. Time comes first: [T, B, ...].
"""

import keras
from keras import ops, tree

from kerasrnn.engine.layout import Layout
from kerasrnn.engine.problem import Spec
from kerasrnn.engine.tried_step import TriedStep


class Steps:
    """A cell's step with masking: where the mask is False a state keeps its value and an output
    repeats the one before, zeros at first.

    An output that is one of the new states needs no place of its own. Any other is carried as one
    more state, `held`, where a mask or the last output asks for it.

    Attributes:
        layout: where the tensors of a step stand.
        tried: what the step showed on zeros.
        scanned: what the loop reads at each step: the leaves of z, and the mask last.
        states: what it carries: the cell's own states, `count` of them, and the outputs held.
    """

    def __init__(self, cell, z, states, constants, mask, sequences):
        self.sequences, self.masked = sequences, mask is not None
        self.layout = layout = Layout(z, states, constants)
        self.tried = TriedStep(cell, layout)
        self.fixed, self.count = layout.fixed, len(layout.states)
        self.scanned = [*layout.scanned, mask] if self.masked else layout.scanned
        self.holds = self.masked or not sequences
        self.states = layout.states + (self._held() if self.holds else [])

    def __call__(self, scanned, fixed, states, linear):
        """One step: (new states with the held outputs, outputs that are no state)."""
        mask_t = scanned[-1] if self.masked else None
        new, own = self.unmasked(scanned, fixed, states[: self.count], linear)
        if self.holds:
            new, own = new + own, []
        if self.masked:
            new = [_where(mask_t, n, old) for n, old in zip(new, states, strict=True)]
        return new, own

    def unmasked(self, scanned, fixed, states, linear):
        """The cell's own step: (new states, outputs that are no state)."""
        output, new = self.tried.step(scanned, fixed, states, linear)
        return new, self.tried.only_outputs(tree.flatten(output))

    def place(self, j):
        """Where output leaf j stands: ("state", i) or ("own", i)."""
        aliases = self.tried.aliases
        if aliases[j] is not None:
            return "state", aliases[j]
        i = aliases[:j].count(None)
        return ("state", self.count + i) if self.holds else ("own", i)

    def places(self):
        """The place of every output leaf."""
        return [self.place(j) for j in range(len(self.tried.aliases))]

    def result(self, finals, stacks, own):
        """(output, states) in their structures; stacks: {state index: its values [T, B, ...]}."""
        source = stacks if self.sequences else finals
        leaves = [source[i] if kind == "state" else own[i] for kind, i in self.places()]
        output = tree.pack_sequence_as(self.tried.output, leaves)
        states = list(finals[: self.count])
        return output, tree.pack_sequence_as(self.layout.structure[1], states)

    def emitted(self):
        """Indices of the states that are outputs at every step."""
        return sorted({i for kind, i in self.places() if kind == "state"}) if self.sequences else []

    def output_of(self, state):
        """The output leaf that is this state."""
        return self.places().index(("state", state))

    def own_specs(self):
        """Specs of the outputs that have to be stacked beside the states."""
        return [] if self.holds else self.tried.only_outputs(self.tried.output_specs)

    def state_specs(self):
        """The spec of everything that the loop carries."""
        return [Spec(tuple(s.shape), keras.backend.standardize_dtype(s.dtype)) for s in self.states]

    def _held(self):
        """Zeros for the outputs that are carried as states."""
        tried, layout = self.tried, self.layout
        specs = tried.only_outputs(tried.output_specs)
        if all(None not in s.shape[1:] for s in specs):
            batch = ops.shape(layout.states[0])[0]
            return [ops.zeros((batch, *s.shape[1:]), dtype=s.dtype) for s in specs]
        # A size that only the run knows: one step is computed for its shapes.
        first = [ops.zeros_like(z[0]) for z in layout.scanned]
        linear = tried.plain_linear(tried.prepared())
        output, _ = tried.step(first, layout.fixed, layout.states, linear)
        return [ops.zeros_like(o) for o in tried.only_outputs(tree.flatten(output))]


def _where(mask_t, new, old):
    """new where mask_t [B] is True, old elsewhere."""
    return ops.where(ops.reshape(mask_t, (-1,) + (1,) * (len(new.shape) - 1)), new, old)
