"""How a task answers whose `task.py` says all there is to know: the kinds read and say it.

Nothing here loads TensorFlow where the model is an ONNX file.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.kinds import Choice, Place
from kerasrnn.tasks.opening import open_model
from kerasrnn.tasks.task import Option, Task
from kerasrnn.tasks.using import Answers

ROWS = 32  # inputs answered together
NUMBERS = {"int32": int, "float32": float}


def options_of(task: Task) -> list[Option]:
    """What the verb takes: a file where there are inputs, and the numbers that the user chooses."""
    rows, choices = inputs_of(task)
    options = [
        Option(
            place.name,
            f"{place.label or place.name} ({place.kind.default:g})",
            "N",
            [task.verb],
            kind=NUMBERS[place.kind.number],
            default=place.kind.default,
        )
        for place in choices
    ]
    if not rows:
        return options
    names = ", ".join(place.name for place in rows)
    text = f"{names}: one a line; default: stdin" if len(rows) == 1 else f"CSV with {names}"
    return [Option("file", text, commands=[task.verb], positional=True), *options]


def inputs_of(task: Task) -> tuple[list[Place], list[Place]]:
    """(inputs of which each row has its own, numbers for all rows)."""
    choices = [place for place in task.takes if isinstance(place.kind, Choice)]
    return [place for place in task.takes if place not in choices], choices


def answers(task: Task, options, refuse: Callable) -> Answers:
    """Answer every row of the file; see `kerasrnn.tasks.task`."""
    run = open_model(options.model, task)
    rows, choices = inputs_of(task)
    chosen = {place.name: _number(place, getattr(options, place.name)) for place in choices}
    if not rows:
        yield _said(task, {}, run(chosen), 0)
        return
    given = _rows(rows, options.file)
    while part := list(itertools.islice(given, 1 if _differs(rows) else ROWS)):
        values = {p.name: np.stack([row[p.name][1] for row in part]) for p in rows}
        found = run({**values, **chosen})
        for i, row in enumerate(part):
            yield _said(task, {name: typed for name, (typed, _) in row.items()}, found, i)


def _differs(rows: list[Place]) -> bool:
    """Whether values may be of different sizes, so that they make no batch."""
    return any(place.kind.axes for place in rows)


def _said(task: Task, given: dict, found: dict, i: int) -> tuple[dict, str]:
    """(answer `i` by name with its input, the same as a line)."""
    values = {place.name: place.kind.row(found[place.name][i]) for place in task.gives}
    return given | values, "\t".join(p.kind.line(values[p.name]) for p in task.gives)


def _number(place: Place, typed) -> np.ndarray:
    """A number that the user chose, checked (InputError)."""
    kind, option = place.kind, f"--{place.name.replace('_', '-')}"
    if not kind.least <= typed <= (float("inf") if kind.most is None else kind.most):
        expected = f"{kind.least:g} or more" if kind.most is None else f"{kind.least:g} to "
        expected += "" if kind.most is None else f"{kind.most:g}"
        raise InputError(option, expected, typed, "correct it")
    return np.array(typed, kind.dtype)


def _rows(places: list[Place], file: str | None) -> Iterator[dict]:
    """Each row by name: (as typed, its value).

    Raises:
        InputError: naming the line that cannot be read.
    """
    name = file or "the input"
    for number, row in enumerate(_cells(places, file), 1):
        values = {}
        for place, cell in zip(places, row, strict=True):
            try:
                values[place.name] = cell, place.kind.parse(cell)
            except ValueError:
                expected = f"a {type(place.kind).__name__.lower()} as {place.name}"
                received = f"{cell!r} in line {number} of {name}"
                raise InputError("FILE", expected, received, "mend it") from None
        yield values


def _cells(places: list[Place], file: str | None) -> Iterable[list[str]]:
    """The cells of each line: the whole line for one input, else the columns of a CSV file."""
    text = _text(file)
    if len(places) == 1:
        return ([line] for line in text.splitlines())
    reader = csv.DictReader(text.splitlines())
    names = [place.name for place in places]
    missing = [name for name in names if name not in (reader.fieldnames or [])]
    if missing:
        step = "add it to the first line"
        raise InputError("FILE", f"a column {missing[0]}", file or "the input", step)
    return ([row[name] or "" for name in names] for row in reader)


def _text(file: str | None) -> str:
    if file is None:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        received = f"{file} ({reason})"
        raise InputError("FILE", "a file that can be read", received, "check it") from None
