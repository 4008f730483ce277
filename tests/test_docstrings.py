"""The examples in the docstrings run, and every module has a docstring."""

import doctest
import importlib
import pkgutil

import pytest

import kerasrnn
import kerasrnn.export
import kerasrnn.pipelines

MODULES = sorted(
    {
        name
        for package in (kerasrnn, kerasrnn.pipelines, kerasrnn.export)
        for _, name, _ in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    }
)


def test_the_walk_finds_every_layer():
    for name in (
        "kerasrnn.text.tokenizers",
        "kerasrnn.cells.lstm",
        "kerasrnn.pipelines.text",
        "kerasrnn.cli",
    ):
        assert name in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0
