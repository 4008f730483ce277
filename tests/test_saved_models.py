"""Models that earlier versions saved still load, and answer what they answered then.

`tests/saved/` was written before the rooms (commit 1bb3744): models of
`tests/catalog.py`, the inputs and the answer beside each.
"""

import json
import zipfile

import keras
import numpy as np
import pytest

import kerasrnn  # noqa: F401  (tells Keras where the classes are)
from tests.conftest import ROOT

FILES = sorted((ROOT / "tests" / "saved").glob("*.keras"))


def loaded(file):
    """The model; Keras reads what older ones saved, and does not promise to read newer ones'."""
    with zipfile.ZipFile(file) as archive:
        saved = json.loads(archive.read("metadata.json"))["keras_version"]
    if [int(n) for n in keras.__version__.split(".")[:2]] < [int(n) for n in saved.split(".")[:2]]:
        pytest.skip(f"saved by Keras {saved}, newer than {keras.__version__}")
    return keras.models.load_model(file)


def test_there_are_some():
    assert len(FILES) == 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads_and_answers_as_before(file):
    model = loaded(file)
    with np.load(file.with_suffix(".npz")) as arrays:
        inputs = [arrays[name] for name in arrays.files if name != "answer"]
        answer = model(inputs if len(inputs) > 1 else inputs[0])
        answer = answer[0] if isinstance(answer, tuple | list) else answer
        np.testing.assert_allclose(answer, arrays["answer"], atol=1e-5)


def test_it_goes_on_training():
    model = loaded(ROOT / "tests" / "saved" / "layers.keras")
    before = model.optimizer.iterations.numpy()
    x, y = np.ones([4, 6, 3], "float32"), np.ones([4, 6], "int32")
    model.fit(x, y, verbose=0)
    assert model.optimizer.iterations.numpy() == before + 1
