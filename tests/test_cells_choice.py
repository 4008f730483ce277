"""A cell of the user's own, as a class in Python and by name on the command line."""

import os
import re

import keras
import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS, GRU, Cell
from kerasrnn.cells.choice import cell_class, cell_name
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import ENCODERS
from kerasrnn.models import LanguageModel, Translator
from kerasrnn.text.tokenizers import CharTokenizer
from tests.test_cli import TEXT, TRAIN, run

LEAKY = '''
import keras
from kerasrnn.cells import Cell

@keras.saving.register_keras_serializable("leaky_cells")
class Leaky(Cell):
    """h = 0.9 h + tanh(W x + U h)."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, self.units), name="recurrent")

    def project(self, x, training=None):
        return keras.ops.matmul(x, self.kernel)

    def step(self, z, h, linear):
        h = 0.9 * h + keras.ops.tanh(z + linear(h, self.recurrent))
        return h, h

    def get_config(self):
        return {**super().get_config(), "units": self.units}
'''
names: dict = {"__name__": "leaky_cells"}
exec(LEAKY.replace('"leaky_cells"', '"leaky_tests"'), names)
Leaky = names["Leaky"]
TOKENIZER = CharTokenizer.from_texts(["abcdefgh"])


class Unregistered(GRU):
    """Keras could not load a model of it."""


def test_names_and_classes_mean_cells():
    for name, kind in CELLS.items():
        assert cell_class(name) is cell_class(kind) is kind
        assert cell_name(kind) == cell_name(name) == name
    assert cell_name(Leaky) == "leaky_tests>Leaky" and cell_class("leaky_tests>Leaky") is Leaky
    assert cell_class(f"{__name__}:Unregistered") is Unregistered


@pytest.mark.parametrize(
    "cell, message",
    [
        ("lsmt", f"one of {', '.join(CELLS)}, got lsmt; choose one of them"),
        ("os:system", "a subclass of Cell in a module that is imported, got os:system; import it"),
        ("nowhere.at:All", "a subclass of Cell in a module .*; import it; or say --import nowhere"),
        (
            "none>Here",
            "a subclass of Cell in a module .* got none>Here; import it; or say --import",
        ),
        (keras.layers.GRUCell, "or a subclass of Cell, got <class .*GRUCell"),
    ],
)
def test_what_is_no_cell(cell, message):
    with pytest.raises(InputError, match=rf"^cell: expected .*{message}"):
        cell_class(cell)


def test_a_class_that_could_not_be_loaded_again():
    with pytest.raises(InputError, match="cell: expected a class that is registered with Keras"):
        LanguageModel(TOKENIZER, cell=Unregistered)


def language_model():
    return LanguageModel(TOKENIZER, cell=Leaky, units=6, layers=2, embedding=5)


def translator():
    encoder = ENCODERS["bidirectional"](TOKENIZER.size, cell=Leaky, units=6, embedding=5)
    decoder = Decoder(TOKENIZER.size, cell=Leaky, units=6, embedding=5)
    return Translator(TOKENIZER, TOKENIZER, encoder, decoder)


@pytest.mark.parametrize("make", [language_model, translator])
def test_a_model_of_a_class_is_saved_with_its_name(make, tmp_path):
    keras.utils.set_random_seed(3)
    model = make()
    ids = np.array([[4, 5, 6, 7], [8, 9, 3, 0]])
    inputs = ids if make is language_model else (ids, ids)
    wanted = model(inputs)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(inputs), wanted, rtol=1e-6)
    layers = [layer for layer in loaded._flatten_layers() if isinstance(layer, Cell)]
    assert any(type(layer) is Leaky for layer in layers)


@pytest.mark.slow
def test_a_cell_of_a_package_on_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "leaky_cells.py").write_text(LEAKY)
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    out, own = tmp_path / "run", ("--set", "cell=leaky_cells:Leaky")
    command = ("train", "lm", "--text", tmp_path / "text.txt", "--out", out, *TRAIN, *own)
    done = run(*command, code=2)
    assert done.stderr.endswith("got leaky_cells:Leaky; import it; or say --import leaky_cells\n")
    run(*command, "--import", "leaky_cells")
    done = run("generate", out, code=2)
    assert re.search(
        r"needs Leaky of the package leaky_cells; say --import leaky_cells", done.stderr
    )
    options = ("--length", "9", "--seed", "2")
    text = run("generate", out, *options, "--import", "leaky_cells").stdout
    export = tmp_path / "export"
    run("export", out, "--out", export, "--format", "onnx", "--import", "leaky_cells")
    assert run("generate", export / "model.onnx", *options).stdout == text
