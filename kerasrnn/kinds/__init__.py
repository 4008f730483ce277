"""Kinds of input and output: their tensors, what is tried of them, how they are said and shown."""

from kerasrnn.kinds.kind import Kind, Place, described, place_of
from kerasrnn.kinds.numbers import Attention, Choice, Ids, Number, Series, State
from kerasrnn.kinds.pictures import Image
from kerasrnn.kinds.texts import Label, Pieces, Text

KINDS = {
    kind.__name__.lower(): kind
    for kind in (Attention, Choice, Ids, Image, Label, Number, Pieces, Series, State, Text)
}

__all__ = [
    "KINDS",
    "Attention",
    "Choice",
    "Ids",
    "Image",
    "Kind",
    "Label",
    "Number",
    "Pieces",
    "Place",
    "Series",
    "State",
    "Text",
    "described",
    "place_of",
]
