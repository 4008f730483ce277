"""`import kerasrnn` alone lets Keras load what was saved, and imports no TensorFlow."""

import ast
import os
import subprocess
import sys

import keras
import pytest

import kerasrnn
from kerasrnn.cells import GRU
from kerasrnn.layers import Recurrent
from kerasrnn.saved_classes import PLACES
from tests.conftest import ROOT


def registered(path) -> set[str]:
    """The classes of a file that Keras saves under our name."""
    classes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    decorators = {c.name: [ast.unparse(d) for d in c.decorator_list] for c in classes}
    return {
        name
        for name, lines in decorators.items()
        if any("register_keras_serializable" in line and "'kerasrnn'" in line for line in lines)
    }


def test_the_table_has_every_class_that_keras_saves():
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): registered(path)
        for path in (ROOT / "kerasrnn").rglob("*.py")
    }
    wanted = {module: names for module, names in files.items() if names}
    assert {module: set(names.split()) for module, names in PLACES.items()} == wanted


@pytest.mark.parametrize("order", ["import kerasrnn, keras", "import keras, kerasrnn"])
def test_a_saved_layer_is_found_whatever_is_imported_first(tmp_path, order):
    file = tmp_path / "model.keras"
    model = keras.Sequential([keras.Input((None, 3)), Recurrent(GRU(4))])
    model.save(file)
    source = f"{order}; print(type(keras.models.load_model({str(file)!r}).layers[0]))"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )  # fmt: skip
    assert done.stdout.strip() == "<class 'kerasrnn.layers.recurrent.Recurrent'>", done.stderr


def test_importing_is_light_and_shows_the_public_names():
    source = (
        "import sys, kerasrnn; print(sorted({'keras', 'tensorflow'} & set(sys.modules)), "
        "kerasrnn.__version__, 'Recurrent' in dir(kerasrnn), 'export' in dir(kerasrnn))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.split() == ["[]", kerasrnn.__version__, "True", "True"], done.stderr
    assert set(kerasrnn.__all__) == set(dir(kerasrnn))
    assert callable(kerasrnn.export.onnx) and "onnx" in dir(kerasrnn.export)
