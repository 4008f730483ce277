"""Hyperparameters as frozen dataclasses, and `--set name=value` on them."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar, get_type_hints

from kerasrnn.base.errors import InputError
from kerasrnn.base.suggestions import advice

Settings = TypeVar("Settings")
RESERVED = 4  # ids of every tokenizer
TRUTH = {"true": True, "false": False}


def finite(text: str) -> float:
    """Parse a number; infinity and "nan" raise ValueError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _parse(name: str, text: str, kind) -> object:
    """`text` as the type that the setting has."""
    if kind is bool:
        if text.lower() not in TRUTH:
            raise InputError(name, "true or false", text, "write one of them")
        return TRUTH[text.lower()]
    for number, parse in ((int, int), (float, finite)):
        if kind is number or (number is int and kind == int | str and text.isdigit()):
            try:
                return parse(text)
            except ValueError:
                word = "a whole number" if number is int else "a number"
                raise InputError(name, word, text, "correct it") from None
    return text


def with_changes(settings: Settings, assignments: list[str]) -> Settings:
    """`settings` with "name=value" assignments applied.

    Raises:
        InputError: for an unknown name, a value that is not of the setting's type, or two values.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Tiny:
    ...     units: int = 8
    ...     tied: bool = False
    >>> with_changes(Tiny(), ["units=16", "tied=true"])
    Tiny(units=16, tied=True)
    """
    kinds = get_type_hints(type(settings))
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in kinds:
            expected = f"name=value with a name of {', '.join(kinds)}"
            raise InputError("--set", expected, assignment, advice(name, kinds, "correct it"))
        value = _parse(name, text, kinds[name])
        if values.setdefault(name, value) != value:
            raise InputError(name, "one value", f"{values[name]} and {value}", "give it once")
    return dataclasses.replace(settings, **values)


def ids_said(tokenizers, asked: int) -> str:
    """How many ids the tokenizers have, with a word where a vocabulary is smaller than asked for.

    Args:
        tokenizers: one or two, what has `size` and `level`.
        asked: the setting `vocabulary`, 0 for none. Only of subwords it counts the reserved ids.

    >>> from types import SimpleNamespace as Has
    >>> ids_said([Has(size=54, level="word"), Has(size=46, level="word")], 50)
    '54 and 46 ids; the vocabulary is smaller than the 50 asked for: the text has 42'
    """
    said = f"{' and '.join(str(t.size) for t in tokenizers)} ids"
    known = [t.size - (0 if t.level == "subword" else RESERVED) for t in tokenizers]
    if short := [str(count) for count in known if count < asked]:
        has = f"the text has {' and '.join(short)}"
        said += f"; the vocabulary is smaller than the {asked} asked for: {has}"
    return said
