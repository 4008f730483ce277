"""Settings: fields of frozen dataclasses that carry their help, their range, and what they need.

Nothing here loads TensorFlow: the command line makes its options from the fields.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar, get_type_hints

from kerasrnn.base.errors import InputError
from kerasrnn.base.suggestions import advice

Settings = TypeVar("Settings")
TRUTH = {"true": True, "false": False}


class Range(NamedTuple):
    """The numbers that a setting may be.

    Attributes:
        text: in words, for messages and tables.
        holds: number -> whether it is one of them.
        step: advice where it is not.
    """

    text: str
    holds: Callable[[float], bool]
    step: str = "change it"


COUNT = Range("1 or more", lambda value: value >= 1, "raise it")
AMOUNT = Range("0 or more", lambda value: 0 <= value < math.inf)
SHARE = Range("a share from 0 to below 1", lambda value: 0 <= value < 1)


def as_option(name: str) -> str:
    """Return a name as it is typed on the command line.

    >>> as_option("batch_size")
    '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


class Need(NamedTuple):
    """What must stand beside an option or a setting, without which it would mean nothing.

    Attributes:
        beside: what is missing, as it is typed on the command line.
        fits: the values of all options or settings by name -> whether it is there.
    """

    beside: str
    fits: Callable[[dict], bool]


class Setting(NamedTuple):
    """What a field says of itself besides its name, type and default; see `setting`."""

    help: str
    choices: Sequence[str] | str | None
    check: str
    range: Range | None
    needs: Need | None
    rivals: Sequence[str]

    def names(self) -> Sequence[str] | None:
        """The names that it may be; None where it may be any. May load TensorFlow."""
        if not isinstance(self.choices, str):
            return self.choices
        return list(_loaded(self.choices))


def _loaded(place: str):
    """What stands in "module:NAME"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def setting(
    default,
    help: str,
    *,
    choices: Sequence[str] | str | None = None,
    check: str = "",
    range: Range | None = None,
    needs: Need | None = None,
    rivals: Sequence[str] = (),
):
    """A field of a dataclass of settings.

    Args:
        default: its value in the preset "small".
        help: what it is, in a few words.
        choices: the names that it may be, or where a table of them stands: "module:TABLE".
        check: what refuses other values, where there are more than these names: "module:FUNCTION".
        range: the numbers that it may be.
        needs: the other setting without which it means nothing.
        rivals: options or settings beside which it means nothing.
    """
    said = Setting(help, choices, check, range, needs, rivals)
    return dataclasses.field(default=default, metadata={"setting": said})


def inherited(kind: type, name: str, default, **changed):
    """The field `name` of `kind` with another default, and what else is `changed` of `setting`."""
    said = said_of(kind)[name]._asdict() | changed
    return setting(default, **said)


def said_of(kind) -> dict[str, Setting]:
    """What the fields of a class of settings say of themselves, by name."""
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(kind)}


def described(settings) -> list[dict]:
    """Describe each setting: its "name", "value", what it may be ("allowed") and its "help".

    May load TensorFlow, where tables of names stand.
    """
    types, rows = get_type_hints(type(settings)), []
    for name, said in said_of(settings).items():
        names = said.names()
        allowed = ", ".join(names) if names is not None else said.range and said.range.text
        kind = {bool: "true or false", int: "a whole number", float: "a number"}
        allowed = allowed or kind.get(types[name], "")
        help = f"{said.help}; with {said.needs.beside}" if said.needs else said.help
        rows.append(
            {"name": name, "value": getattr(settings, name), "allowed": allowed, "help": help}
        )
    return rows


def check_settings(settings) -> None:
    """Refuse a setting that is none of its choices or outside its range (InputError)."""
    for name, said in said_of(settings).items():
        value, names = getattr(settings, name), said.names()
        if said.check:
            _loaded(said.check)(value)
        elif names is not None and value not in names:
            raise InputError(name, f"one of {', '.join(names)}", value, "choose one of them")
        if said.range is not None and not said.range.holds(value):
            raise InputError(name, said.range.text, value, said.range.step)


def check_meaning(settings, options: dict, changed: Iterable[str]) -> None:
    """Refuse a setting that means nothing beside, or without, the others (InputError).

    Args:
        settings: all settings.
        options: the values of all options, by name.
        changed: the names of the settings that the user gave.
    """
    values, changed = options | vars(settings), list(changed)
    for name, said in said_of(settings).items():
        if name not in changed:
            continue
        if said.needs is not None:
            check_need(name, said.needs, values)
        for rival in filter(values.get, said.rivals):
            option, other = as_option(name), as_option(rival)
            step = f"leave {option} or {other} out"
            raise InputError(option, f"no {other} beside it", values[name], step)


def check_need(name: str, need: Need, values: dict) -> None:
    """Refuse the option or setting `name` where what it needs is missing (InputError)."""
    if not need.fits(values):
        value = values[name]
        received = value[0] if isinstance(value, list) else value
        step = f"add {need.beside.split()[0]}, or leave it out"
        raise InputError(as_option(name), f"{need.beside} beside it", received, step)


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
