"""Private names of Keras, TensorFlow and tf2onnx stand in `kerasrnn/compat` only, written down."""

import ast
import subprocess
import sys
from importlib import import_module

import keras
import pytest

from kerasrnn.compat.private import Private
from tests.conftest import ROOT
from tests.test_layering import FILES

MODULES = ("keras.src", "tensorflow.python", "tensorflow.compiler", "tensorflow.core")
DOCUMENTED = {"_asdict", "_exit", "_fields", "_replace"}  # of named tuples, and of `os`
COMPAT = [path for path in FILES if path.parent == ROOT / "kerasrnn" / "compat"]


def is_private(name) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_").isidentifier()


def keras_names() -> set[str]:
    """Private names of the classes of Keras that others derive from."""
    callback, variable = keras.callbacks.Callback(), keras.Variable(0.0)
    objects = [keras.Sequential(), keras.layers.LSTM(1), keras.optimizers.Adam(), variable]
    objects += [callback, keras.losses.Loss(), keras.metrics.Metric()]
    return {name for one in objects for name in dir(one) if is_private(name)}


KERAS_NAMES = keras_names()


def definitions(trees) -> set[str]:
    """Names of functions, classes and fields, and of what objects set on themselves."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return names


def private_names(tree, known: set[str]) -> set[str]:
    """Private names of libraries in a file: imported, read, set, overridden or given to getattr."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith(MODULES)}
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(
            tuple(f"{module}." for module in MODULES)
        ):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            found |= {node.attr} - known - DOCUMENTED
            found |= {node.attr} & KERAS_NAMES
        elif isinstance(node, ast.ClassDef):
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            found |= methods & KERAS_NAMES
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            words = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            found |= {word for word in words if is_private(word)}
        elif isinstance(node, ast.Constant) and str(node.value).startswith(MODULES):
            found.add(node.value)
    return found


KNOWN = definitions(ast.parse(path.read_text(encoding="utf-8")) for path in FILES)


def entries(path) -> tuple[Private, ...]:
    return getattr(import_module(f"kerasrnn.compat.{path.stem}"), "PRIVATE", ())


@pytest.mark.parametrize("path", [p for p in FILES if p not in COMPAT], ids=lambda p: p.name)
def test_no_private_name_stands_outside_compat(path):
    assert private_names(ast.parse(path.read_text(encoding="utf-8")), KNOWN) == set()


@pytest.mark.parametrize(
    "path", [p for p in COMPAT if p.stem not in ("__init__", "private")], ids=lambda p: p.name
)
def test_the_private_names_of_compat_are_written_down(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):  # the entries themselves are no uses
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Private":
            node.args = node.args[1:]
    used = {name.rpartition(".")[2] for name in private_names(tree, KNOWN - KERAS_NAMES)}
    assert used == {entry.name.rpartition(".")[2] for entry in entries(path)}


@pytest.mark.parametrize("entry", [e for p in COMPAT for e in entries(p)], ids=lambda e: e.name)
def test_an_entry_has_its_three_facts(entry):
    assert len(entry.reason) > 10 and len(entry.until) > 10
    libraries = {release.split()[0] for release in entry.tried}
    assert {"keras", "keras-nightly"} <= libraries or "tensorflow" in libraries
    assert all(len(release.split()) == 2 for release in entry.tried)


def test_the_rule_bites():
    source = """
import keras.src.backend
from tensorflow.python.eager import context
from keras import ops
class Mine(keras.Layer):
    def _open_name_scope(self):
        self._mine, self._layers = 1, model._flatten_layers
        dataset._cardinality, self._helper = getattr(variable, "_value"), shape._replace
    def _helper(self):
        importlib.import_module("keras.src.ops")
"""
    tree = ast.parse(source)
    assert private_names(tree, definitions([tree])) == {
        *("keras.src.backend", "tensorflow.python.eager.context", "keras.src.ops"),
        *("_open_name_scope", "_layers", "_flatten_layers", "_cardinality", "_value"),
    }


def test_the_room_itself_loads_no_tensorflow():
    code = "import sys, kerasrnn.compat.private; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
