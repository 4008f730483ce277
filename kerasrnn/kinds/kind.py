"""What all kinds have in common. NumPy only: the command line and exported models need no more.

B batch, the axis that every value has but those of `Choice`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

SIZES = (1, 1, 2, 6, 1, 2, 4, 1)  # B of each case that a model is tried on


@dataclass(frozen=True)
class Kind:
    """A kind of input or output.

    A subclass has fields for what differs between two places of the kind. Those with
    `metadata={"said": False}` stay out of the metadata of exported models.

    Attributes:
        dtype: NumPy's name; "str" for strings.
        axes: behind the batch, each a size, or the name of one that is open.
        batched: whether each row of a batch has a value of its own.
        refusal: what the exported file says where no element is given; "" where none is needed.
    """

    dtype = "float32"
    axes = ()
    batched = True
    refusal = ""

    def cases(self, random: np.random.Generator) -> list[np.ndarray]:
        """Usual and awkward values to try a model on: a batch of each of `SIZES` rows."""
        raise NotImplementedError(f"{type(self).__name__} is no kind of input")

    def parse(self, typed: str) -> np.ndarray:
        """The value of a row, as a person types it.

        Raises:
            ValueError: when it is none.
        """
        raise NotImplementedError(f"{type(self).__name__} is not typed")

    def row(self, value: np.ndarray):
        """One row of an answer as plain Python values, which JSON can hold."""
        return value.tolist()

    def line(self, value) -> str:
        """What `row` returned, as text."""
        return str(value)


class Place(NamedTuple):
    """An input or an output.

    Attributes:
        name: of the tensor.
        kind: its kind.
        label: what a person is asked for.
        many: whether each row has its N best, the best first.
    """

    name: str
    kind: Kind
    label: str = ""
    many: bool = False

    def __str__(self) -> str:
        """Name, type and shape, as tables have them.

        >>> str(Place("score", Kind(), many=True))
        '`score` float [B, N]'
        """
        kind = {"str": "string", "float32": "float"}.get(self.kind.dtype, self.kind.dtype)
        axes = ["B"] * self.kind.batched + ["N"] * self.many + [str(a) for a in self.kind.axes]
        return f"`{self.name}` {kind}" + (f" [{', '.join(axes)}]" if axes else "")


def unsaid(default):
    """A field of a kind that metadata does not say."""
    return field(default=default, metadata={"said": False})


def described(places: Iterable[Place]) -> list[dict]:
    """What the metadata of an exported model says of its inputs or outputs.

    >>> described([Place("score", Kind(), "log p")])
    [{'name': 'score', 'kind': 'kind', 'label': 'log p'}]
    """
    rows = []
    for place in places:
        row = {"name": place.name, "kind": type(place.kind).__name__.lower()}
        if place.label:
            row["label"] = place.label
        if place.many:
            row["many"] = True
        fields = [f for f in dataclasses.fields(place.kind) if f.metadata.get("said", True)]
        rows.append(row | {f.name: getattr(place.kind, f.name) for f in fields})
    return rows


def place_of(row: dict, kinds: dict[str, type[Kind]]) -> Place:
    """The place that a row of `described` says.

    Args:
        row: from the metadata of an exported model.
        kinds: the kinds by their names.
    """
    own = ("name", "kind", "label", "many")
    kind = kinds[row["kind"]](**{name: value for name, value in row.items() if name not in own})
    return Place(row["name"], kind, row.get("label", ""), row.get("many", False))
