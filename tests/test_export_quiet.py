"""An export writes nothing to stderr; one that fails says why in its exception alone."""

import subprocess
import sys

import pytest

CODE = """
import sys
from kerasrnn.cli.printing import load_tensorflow

load_tensorflow()
import keras
from kerasrnn import LanguageModel, WordTokenizer
from kerasrnn.base.errors import InputError
from kerasrnn.export import export, onnx

words = WordTokenizer(["a", "cat", "sat"])
model = LanguageModel(words, embedding=2, cell="lstm", units=3, layers=1)
export(model, sys.argv[1] + "/lm")
strings = [keras.Input([1], dtype="string"), keras.layers.TextVectorization(vocabulary=["a"])]
try:
    onnx(keras.Sequential(strings), sys.argv[1] + "/strings.onnx")
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_libraries_say_nothing_while_an_export_is_written(tmp_path):
    done = subprocess.run([sys.executable, "-c", CODE, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("model: expected parts that ONNX has, got TensorFlow's Lookup")
    assert done.stderr == ""
