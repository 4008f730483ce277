"""Every file stands in a room, and imports only from its own and from the rooms before it."""

import ast

import pytest

from tests.conftest import ROOT

# In order: a room imports from those before it (README, code map).
ROOMS = (
    "kerasrnn/base",
    "kerasrnn/compat",
    "kerasrnn/kinds",
    "kerasrnn/text",
    "kerasrnn/cells",
    "kerasrnn/engine",
    "kerasrnn/attention",
    "kerasrnn/decoding",
    "kerasrnn/layers",
    "kerasrnn/losses",
    "kerasrnn/distribution",
    "kerasrnn/models",
    "kerasrnn/analysis",
    "pipelines",
    "kerasrnn/training",
    "export",
    "kerasrnn/tasks",
    "kerasrnn/cli",
)
# Doors: they stand in no room; they say where names are.
DOORS = ("kerasrnn/__init__.py", "kerasrnn/attention_cells.py", "kerasrnn/saved_classes.py")
# What a room must do without, besides the rooms after it.
WITHOUT = {
    "kerasrnn/base": ("keras", "tensorflow"),
    "kerasrnn/compat": ("kerasrnn.base",),
    "kerasrnn/kinds": ("keras", "tensorflow"),
    "kerasrnn/text": ("kerasrnn.compat",),
    "kerasrnn/cells": ("tensorflow",),
    "kerasrnn/decoding": tuple(f"kerasrnn.{r}" for r in ("text", "cells", "engine", "attention")),
    "pipelines": ("kerasrnn.models", "kerasrnn.layers", "kerasrnn.engine"),
    "export": ("kerasrnn.pipelines", "kerasrnn.training"),
}
FILES = [
    path
    for folder in ("kerasrnn", "pipelines", "export")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def room_of(place: str) -> str | None:
    """The room of a file or of a module, both written as a path; None for a door."""
    if place in DOORS or f"{place}.py" in DOORS or place == "kerasrnn":
        return None
    [room] = [room for room in ROOMS if f"{place}/".startswith(f"{room}/")]
    return room


def imported(path) -> set[str]:
    """Every module that a file names in an import, at the top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def offences(room: str, names: set[str]) -> list[str]:
    """Imports from a later room, or of what the room must do without."""
    after = ROOMS[ROOMS.index(room) + 1 :]
    rules = [place.replace("pipelines", "kerasrnn/pipelines") for place in after]
    rules = ["kerasrnn/export" if rule == "export" else rule for rule in rules]
    rules = [rule.replace("/", ".") for rule in rules] + list(WITHOUT.get(room, ()))
    return sorted(n for n in names for rule in rules if n == rule or n.startswith(f"{rule}."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upward_only(path):
    room = room_of(str(path.relative_to(ROOT)))
    if room is not None:
        assert offences(room, imported(path)) == []


def test_there_are_few_doors():
    flat = {str(path.relative_to(ROOT)) for path in (ROOT / "kerasrnn").glob("*.py")}
    assert flat == set(DOORS) and len(DOORS) <= 3


def test_every_room_is_there_and_says_what_it_is():
    for room in ROOMS:
        tree = ast.parse((ROOT / room / "__init__.py").read_text())
        assert ast.get_docstring(tree), room
        allowed = (ast.Expr, ast.ImportFrom, ast.Assign)
        assert all(isinstance(node, allowed) for node in tree.body), room


def test_the_readme_has_the_rooms_in_their_order():
    rows = [f"| `{room}/` | {said(room)} |" for room in ROOMS]
    assert "\n".join(rows) in (ROOT / "README.md").read_text(encoding="utf-8")


def said(room: str) -> str:
    """The first line of what a room says of itself."""
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(text)).splitlines()[0]


def test_a_model_imports_no_other_model():
    models = ("captioner", "language_model", "translator")
    for name in models:
        names = imported(ROOT / "kerasrnn" / "models" / f"{name}.py")
        others = {n for n in names for o in models if n.startswith(f"kerasrnn.models.{o}")}
        assert others == set(), name


def test_the_rules_bite():
    assert offences("kerasrnn/text", {"kerasrnn.decoding.greedy", "kerasrnn.base.errors"}) == [
        "kerasrnn.decoding.greedy"
    ]
    assert offences("pipelines", {"kerasrnn.export", "os"}) == ["kerasrnn.export"]
    assert offences("export", {"kerasrnn.pipelines.text"}) == ["kerasrnn.pipelines.text"]
    with pytest.raises(ValueError):
        room_of("kerasrnn/new.py")
