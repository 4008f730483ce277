"""What holds for every public part: configuration, saving, padding, precision, export."""

import importlib
import inspect

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn.engine.recurrence import exporting
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.layers import Recurrent
from tests import catalog
from tests.recurrent_cases import scatter
from tests.test_docstrings import MODULES

B, T, D = 3, 6, catalog.D
LENGTHS = [6, 2, 4]
MASK = np.arange(T) < np.array(LENGTHS)[:, None]


def registered() -> set[str]:
    """Class names of everything of ours that Keras can make from a configuration."""
    classes = [
        thing
        for name in MODULES
        for _, thing in inspect.getmembers(importlib.import_module(name), inspect.isclass)
        if thing.__module__.startswith("kerasrnn")
    ]
    names = {c: keras.saving.get_registered_name(c) for c in classes}
    return {c.__name__ for c, name in names.items() if name.startswith("kerasrnn>")}


def inputs() -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=(B, T, D)), tf.float32)


def layer_of(name: str):
    """A built layer with weights that none has by default: the part, or the part run over time."""
    make = catalog.LAYERS.get(name) or (
        lambda: Recurrent(catalog.CELLS[name](), return_sequences=True)
    )
    layer = make()
    layer(inputs())
    scatter(layer)
    return layer


RECURRENT = [*catalog.CELLS, *catalog.LAYERS]


def test_the_catalog_is_complete():
    assert set(catalog.CATALOG) == registered()


def test_every_cell_by_name_is_in_the_catalog():
    from kerasrnn.cells import CELLS

    assert {c.__name__ for c in CELLS.values()} <= set(catalog.CELLS)


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_configuration_round_trip(name):
    part = catalog.CATALOG[name]()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(part))
    assert type(again) is type(part) and again is not part
    assert again.get_config() == part.get_config()


@pytest.mark.parametrize("name", RECURRENT)
def test_saved_and_loaded(name, tmp_path):
    model = keras.Sequential([keras.Input([None, D]), layer_of(name)])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert len(loaded.weights) == len(model.weights)
    np.testing.assert_array_equal(loaded(inputs()), model(inputs()))


@pytest.mark.parametrize("name", RECURRENT)
def test_padding_changes_nothing(name):
    layer, x = layer_of(name), inputs()
    noise = tf.where(MASK[..., None], x, 9.0 * x)
    padded = layer(noise, mask=tf.constant(MASK)).numpy()
    for b, length in enumerate(LENGTHS):
        alone = layer(x[b : b + 1, :length]).numpy()[0]
        backwards = getattr(layer, "go_backwards", False)
        row = padded[b, T - length :] if backwards else padded[b, :length]
        np.testing.assert_allclose(row, alone, atol=1e-5)


@pytest.mark.parametrize("name", RECURRENT)
def test_mixed_precision(name):
    layer, x = layer_of(name), inputs()
    config = keras.saving.serialize_keras_object(layer)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = keras.saving.deserialize_keras_object(_without_dtypes(config))
        half(x)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(layer.get_weights())
    found = half(x)
    assert found.dtype == tf.bfloat16 and all(w.dtype == "float32" for w in half.trainable_weights)
    np.testing.assert_allclose(tf.cast(found, tf.float32), layer(x), atol=0.1, rtol=0.1)


def _without_dtypes(config):
    """A serialized layer whose policies are the global one when it is made."""
    if isinstance(config, dict):
        return {k: _without_dtypes(v) for k, v in config.items() if k != "dtype"}
    return [_without_dtypes(v) for v in config] if isinstance(config, list) else config


@pytest.mark.parametrize("name", RECURRENT)
def test_saved_model_and_onnx(name, tmp_path):
    """Traced on the portable path, batch and time left open, a mask given."""
    layer = layer_of(name)
    signature = [
        tf.TensorSpec([None, None, D], tf.float32, "x"),
        tf.TensorSpec([None, None], tf.bool, "mask"),
    ]

    def function(x, mask):
        return layer(x, mask=mask)

    wanted = function(inputs(), tf.constant(MASK)).numpy()
    with exporting():
        module = tf.Module()
        module.layer, module.serve = layer, tf.function(function, input_signature=signature)
        tf.saved_model.save(module, str(tmp_path / "sm"))
        onnx = convert(function, signature, ["y"])
    loaded = tf.saved_model.load(str(tmp_path / "sm"))
    served = loaded.serve(inputs(), tf.constant(MASK))
    np.testing.assert_allclose(served, wanted, atol=1e-6)
    session = onnxruntime.InferenceSession(onnx.SerializeToString())
    [found] = session.run(None, {"x": inputs().numpy(), "mask": MASK})
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", catalog.TOKENIZERS)
def test_tokenizers_agree_padded_and_not(name):
    tokenizer = catalog.TOKENIZERS[name]()
    texts = ["the cat sat", "", "a mat!"]
    ids = tokenizer.tokenize(texts)
    together = tokenizer.detokenize(ids.to_tensor())
    for i, text in enumerate(texts):
        alone = tokenizer.tokenize([text])
        assert alone[0].numpy().tolist() == ids[i].numpy().tolist()
        assert tokenizer.detokenize(alone.to_tensor()).numpy()[0] == together.numpy()[i]


@pytest.mark.parametrize("name", catalog.MODELS)
def test_models_saved_and_loaded(name, tmp_path):
    model = catalog.MODELS[name]()
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.get_config() == model.get_config()
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
