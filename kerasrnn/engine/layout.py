"""Where the tensors of a step stand in flat lists. B batch, T time; time first."""

from keras import tree


class Layout:
    """The leaves of z, of the states and of the constants, as the engine's loops carry them.

    Attributes:
        structure: (z, states, constants), as the cell has them.
        scanned: the leaves of z that have a value for each step, [T, B, ...].
        fixed: those that all steps share, [B, ...] each, and the constants behind them.
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
        """Flat lists of one step as what the cell's step takes: (z, states, constants)."""
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
        """Values by index of scanned and of fixed leaves, as lists over z and over constants."""
        z, _, constants = self.structure
        i, j, over_z = 0, 0, []
        for leaf, shared in zip(tree.flatten(z), self.shared, strict=True):
            if leaf is None:
                over_z.append(None)
            elif shared:
                over_z.append(None if j not in fixed else fixed[j][None])
                j += 1
            else:
                over_z.append(scanned.get(i))
                i += 1
        rest = iter(range(j, len(self.fixed)))
        return over_z, [
            None if c is None else fixed.get(next(rest)) for c in tree.flatten(constants)
        ]


def _shared_leaves(leaves):
    """For each leaf of z whether it is the same for all steps: its time axis is 1, T is not."""
    lengths = {leaf.shape[0] for leaf in leaves if leaf is not None}
    return [leaf is not None and leaf.shape[0] == 1 and lengths != {1} for leaf in leaves]
