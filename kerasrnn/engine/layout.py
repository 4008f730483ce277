"""The order of a step's tensors in flat lists. B batch, T time; time first."""

from keras import tree


class Layout:
    """The leaves of z, of the states and of the constants, as the engine's loops carry them.

    Attributes:
        structure: (z, states, constants), in the structures of the cell.
        scanned: the leaves of z that have a value for each step, [T, B, ...].
        fixed: the leaves of z that all steps share, [B, ...] each, then the constants.
        states: the leaves of the states, [B, ...].
    """

    def __init__(self, z, states, constants):
        self.structure = (z, states, tuple(constants))
        leaves = tree.flatten(z)
        self.shared = _shared_leaves(leaves)
        pairs = [(leaf, s) for leaf, s in zip(leaves, self.shared, strict=True) if leaf is not None]
        self.scanned = [leaf for leaf, shared in pairs if not shared]
        self.fixed = [leaf[0] for leaf, shared in pairs if shared]
        self.fixed += [c for c in tree.flatten(self.structure[2]) if c is not None]
        self.states = tree.flatten(states)

    def arguments(self, scanned, fixed, states):
        """The arguments (z, states, constants) of the cell's step, from flat lists of one step."""
        z, state, constants = self.structure
        scanned, fixed = iter(scanned), iter(fixed)
        z_t = [
            None if leaf is None else next(fixed if shared else scanned)
            for leaf, shared in zip(tree.flatten(z), self.shared, strict=True)
        ]
        constants_t = [None if c is None else next(fixed) for c in tree.flatten(constants)]
        return (
            tree.pack_sequence_as(z, z_t),
            tree.pack_sequence_as(state, list(states)),
            tree.pack_sequence_as(constants, constants_t),
        )

    def spread(self, scanned, fixed):
        """Two lists of values: one for each leaf of z, one for each leaf of the constants.

        Args:
            scanned: {index in `self.scanned`: value}.
            fixed: {index in `self.fixed`: value}.

        A leaf without a value gets None.
        """
        z, _, constants = self.structure
        i, j, z_values = 0, 0, []
        for leaf, shared in zip(tree.flatten(z), self.shared, strict=True):
            if leaf is None:
                z_values.append(None)
            elif shared:
                z_values.append(None if j not in fixed else fixed[j][None])  # its time axis is 1
                j += 1
            else:
                z_values.append(scanned.get(i))
                i += 1
        constant_indices = iter(range(j, len(self.fixed)))
        return z_values, [
            None if c is None else fixed.get(next(constant_indices))
            for c in tree.flatten(constants)
        ]


def _shared_leaves(leaves):
    """For each leaf of z, whether all steps share it: its time axis is 1, another leaf's is T."""
    # Where every leaf has one step, T itself is 1 and nothing is shared.
    lengths = {leaf.shape[0] for leaf in leaves if leaf is not None}
    return [leaf is not None and leaf.shape[0] == 1 and lengths != {1} for leaf in leaves]
