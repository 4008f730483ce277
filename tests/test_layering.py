"""A file imports only what stands above it in the design (README, code map)."""

import ast

import pytest

from tests.conftest import ROOT

# place -> what it must not import (prefixes). The exception that the command line prints,
# `kerasrnn.errors`, imports nothing and is for all; so is `kerasrnn.compat`, which imports no
# other file of the package.
FORBIDDEN = {
    "kerasrnn/compat": ["kerasrnn"],
    "kerasrnn/text.py": ["kerasrnn"],
    "kerasrnn/decoding.py": ["kerasrnn"],
    "kerasrnn/beam.py": [
        *("kerasrnn.cells", "kerasrnn.layers", "kerasrnn.models", "kerasrnn.recurrence"),
        *("kerasrnn.text", "kerasrnn.pipelines", "kerasrnn.export"),
    ],
    "kerasrnn/cells": ["tensorflow", "kerasrnn.recurrence", "kerasrnn.replay", "kerasrnn.layers"],
    "kerasrnn/attention.py": ["tensorflow", "kerasrnn.layers", "kerasrnn.models"],
    "kerasrnn/attention_cells.py": ["tensorflow", "kerasrnn.layers", "kerasrnn.models"],
    "kerasrnn/recurrence.py": ["kerasrnn.layers", "kerasrnn.models"],
    "kerasrnn/replay.py": ["kerasrnn.layers", "kerasrnn.models"],
    "kerasrnn/layers": ["kerasrnn.models", "kerasrnn.decoding"],
    "kerasrnn/models": ["kerasrnn.pipelines", "kerasrnn.export"],
    "kerasrnn/training.py": ["kerasrnn.models"],
    "kerasrnn/distribution.py": ["kerasrnn.models"],
    "kerasrnn/multi_worker.py": ["kerasrnn.models", "kerasrnn.layers", "kerasrnn.pipelines"],
    "pipelines": ["kerasrnn.models", "kerasrnn.export"],
    "export": ["kerasrnn.pipelines"],
    "": ["kerasrnn.cli"],
}
FILES = [
    path
    for folder in ("kerasrnn", "pipelines", "export")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


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


def offences(place: str, names: set[str]) -> list[str]:
    rules = [
        rule for prefix, found in FORBIDDEN.items() if place.startswith(prefix) for rule in found
    ]
    free = ("kerasrnn.errors.", "kerasrnn.compat.")
    names = {name for name in names if not name.startswith(free)}
    return sorted(n for n in names for rule in rules if n == rule or n.startswith(rule + "."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upward_only(path):
    assert offences(str(path.relative_to(ROOT)), imported(path)) == []


def test_a_model_imports_no_other_model():
    for path in sorted((ROOT / "kerasrnn" / "models").glob("*.py")):
        if path.name != "__init__.py":
            others = {n for n in imported(path) if n.startswith("kerasrnn.models")}
            assert others == set(), path


def test_the_rules_bite():
    assert offences("kerasrnn/text.py", {"kerasrnn.decoding.greedy"}) == [
        "kerasrnn.decoding.greedy"
    ]
    assert offences("pipelines/text.py", {"kerasrnn.export", "os"}) == ["kerasrnn.export"]
