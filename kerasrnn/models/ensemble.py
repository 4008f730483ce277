"""Several translators as one."""

from __future__ import annotations

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.sampling import ensemble
from kerasrnn.models.search import Translates


class Ensemble(Translates):
    """Translates by the mean of its members' probabilities; attention is their mean too.

    Args:
        members: translators with the same vocabularies.

    Raises:
        InputError: when there is none, or their vocabularies differ.
    """

    def __init__(self, members: list):
        if not members:
            raise InputError("members", "one translator or more", "none", "give a list of them")
        for member in members[1:]:
            for one, other in zip(members[0].tokenizers, member.tokenizers, strict=True):
                if one.pieces != other.pieces:
                    received = f"{one.size} and {other.size} pieces that differ"
                    raise InputError("members", "the same vocabularies", received, "train on them")
        self.members = list(members)
        self.tokenizers = members[0].tokenizers
        self.attends = any(member.attends for member in members)

    @property
    def variables(self) -> list:
        return [variable for member in self.members for variable in member.variables]

    def stepper(self, source, beam: int):
        """Source ids int32 [B, S] -> (the step function of B · beam rows, state, mask [B, S])."""
        steps, states, masks = zip(*(m.stepper(source, beam) for m in self.members), strict=True)
        return ensemble(steps), states, masks[0]
