"""A cell's step as the loops over time run it: on flat lists, with the mask folded in.

B batch, T time, H units. Time comes first: [T, B, ...].
"""

import keras
from keras import ops, tree

from kerasrnn.engine.layout import Layout
from kerasrnn.engine.problem import Spec
from kerasrnn.engine.tried_step import TriedStep


class Steps:
    """A cell's step with masking, on flat lists.

    Where the mask is False, a state keeps its value and an output repeats that of the step before;
    before the first real step an output is 0.

    Most outputs are one of the new states and are kept as such. Any other is called an own output.
    The loop stacks the own outputs, or, with a mask or when only the last output is wanted,
    carries them as further states: they are held.

    Attributes:
        layout: the `Layout` of the step's tensors.
        tried: the `TriedStep`.
        scanned: the tensors that the loop reads at each step: the leaves of z, then the mask.
        states: the tensors that the loop carries: `count` states of the cell, then held outputs.
        holds: whether the own outputs are held.
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
        """One step: (new states, then held outputs; own outputs, empty where they are held)."""
        mask_t = scanned[-1] if self.masked else None
        new_states, own_outputs = self.unmasked(scanned, fixed, states[: self.count], linear)
        if self.holds:
            new_states, own_outputs = new_states + own_outputs, []
        if self.masked:
            pairs = zip(new_states, states, strict=True)
            new_states = [_where(mask_t, new, old) for new, old in pairs]
        return new_states, own_outputs

    def unmasked(self, scanned, fixed, states, linear):
        """The cell's step without masking: (new states, own outputs)."""
        output, new_states = self.tried.step(scanned, fixed, states, linear)
        return new_states, self.tried.only_outputs(tree.flatten(output))

    def place(self, j):
        """The place of output leaf j: ("state", its index in `states`) or ("own", its index)."""
        aliases = self.tried.aliases
        if aliases[j] is not None:
            return "state", aliases[j]
        i = aliases[:j].count(None)  # the own outputs before it
        return ("state", self.count + i) if self.holds else ("own", i)

    def places(self):
        """The place of every output leaf."""
        return [self.place(j) for j in range(len(self.tried.aliases))]

    def result(self, finals, stacks, own_outputs):
        """(output, states) in the structures of the cell.

        Args:
            finals: the last carry of the loop.
            stacks: {index of a state: its values at all steps, [T, B, ...]}.
            own_outputs: the stacked own outputs, [T, B, ...] each.
        """
        source = stacks if self.sequences else finals
        leaves = [source[i] if kind == "state" else own_outputs[i] for kind, i in self.places()]
        output = tree.pack_sequence_as(self.tried.output, leaves)
        states = list(finals[: self.count])
        return output, tree.pack_sequence_as(self.layout.structure[1], states)

    def emitted(self):
        """Sorted indices of the states that are outputs at every step; none without `sequences`."""
        return sorted({i for kind, i in self.places() if kind == "state"}) if self.sequences else []

    def output_of(self, state):
        """The index of the first output leaf that is this state."""
        return self.places().index(("state", state))

    def own_specs(self):
        """Specs of the own outputs that the loop stacks; none where they are held."""
        return [] if self.holds else self.tried.only_outputs(self.tried.output_specs)

    def state_specs(self):
        """The spec of each tensor that the loop carries."""
        return [Spec(tuple(s.shape), keras.backend.standardize_dtype(s.dtype)) for s in self.states]

    def _held(self):
        """Zeros to start the held outputs."""
        tried, layout = self.tried, self.layout
        specs = tried.only_outputs(tried.output_specs)
        if all(None not in s.shape[1:] for s in specs):
            batch = ops.shape(layout.states[0])[0]
            return [ops.zeros((batch, *s.shape[1:]), dtype=s.dtype) for s in specs]
        # A size is known only when the graph runs, so one step is computed for its shapes.
        first = [ops.zeros_like(z[0]) for z in layout.scanned]
        linear = tried.plain_linear(tried.prepare())
        output, _ = tried.step(first, layout.fixed, layout.states, linear)
        return [ops.zeros_like(o) for o in tried.only_outputs(tree.flatten(output))]


def _where(mask_t, new, old):
    """`new` where mask_t [B] is True, `old` elsewhere; both [B, ...]."""
    return ops.where(ops.reshape(mask_t, (-1,) + (1,) * (len(new.shape) - 1)), new, old)
