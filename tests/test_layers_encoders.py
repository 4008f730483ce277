"""Encoders of a sentence: padded against alone, the order of reading, residuals, shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.layers.encoders import (
    ENCODERS,
    BidirectionalEncoder,
    ConvolutionalEncoder,
    GNMTEncoder,
    StackedEncoder,
)
from tests import catalog
from tests.recurrent_cases import relative, scatter

H, E, SIZE = 4, 3, 11
IDS = np.array([[5, 6, 7, 8, 3], [9, 3, 0, 0, 0], [4, 10, 6, 3, 0]], np.int32)
LENGTHS = (IDS != 0).sum(axis=1)


def prepared(name, cell="gru", layers=None, **options):
    layers = layers or (3 if name in ("gnmt", "convolutional") else 2)
    encoder = ENCODERS[name](SIZE, embedding=E, cell=cell, units=H, layers=layers, **options)
    encoder.build((None, None))
    scatter(encoder, scale=0.7)
    return encoder


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("name", ENCODERS)
def test_padded_is_alone(name, cell):
    if (name, cell) == ("convolutional", "lstm"):
        pytest.skip("it has no cell")
    encoder = prepared(name, cell)
    together = encoder(tf.constant(IDS))
    assert together.mask.numpy().tolist() == (IDS != 0).tolist()
    for b, length in enumerate(LENGTHS):
        alone = encoder(tf.constant(IDS[b : b + 1, :length]))
        np.testing.assert_allclose(together.values[b, :length], alone.values[0], atol=1e-6)
        np.testing.assert_allclose(together.summary[b], alone.summary[0], atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_longer_padding_changes_nothing(name):
    encoder = prepared(name)
    short, long = encoder(tf.constant(IDS)), encoder(tf.pad(IDS, [[0, 0], [0, 4]]))
    np.testing.assert_allclose(long.summary, short.summary, atol=1e-6)
    np.testing.assert_allclose(long.values[:, :5][IDS != 0], short.values[IDS != 0], atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_word_is_read(name):
    """The summary and the values of a sentence know each of its words."""
    encoder = prepared(name)
    before = encoder(tf.constant(IDS))
    for place in range(LENGTHS[0]):
        changed = IDS.copy()
        changed[0, place] = 9 if changed[0, place] != 9 else 4
        after = encoder(tf.constant(changed))
        # What one row says does not touch the others.
        np.testing.assert_allclose(after.values[1:], before.values[1:], atol=1e-6)
        assert np.abs(after.summary[0] - before.summary[0]).max() > 1e-4, place
        assert np.abs(after.values[0, place] - before.values[0, place]).max() > 1e-4, place


SHAPES = {  # (D, C) in units
    "bidirectional": (2, 2),
    "stacked": (1, 1),
    "reversed": (1, 1),
    "gnmt": (1, 1),
    "convolutional": (1, 1),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_sizes_are_those_that_are_promised(name):
    encoder = prepared(name)
    encoded = encoder(tf.constant(IDS))
    values, summary = (H * n for n in SHAPES[name])
    assert (encoder.values_size, encoder.summary_size) == (values, summary)
    assert encoded.values.shape == (3, 5, values) and encoded.summary.shape == (3, summary)


def run(layer, x, **options):
    outputs, *states = layer(tf.constant(x), **options)
    return outputs.numpy(), states[0].numpy()


def test_a_reversed_source_is_read_from_its_end():
    """By hand: each sentence without its padding, turned round, through the same layers."""
    encoder = prepared("reversed")
    assert encoder.stack[0].go_backwards and not encoder.stack[1].go_backwards
    straight = StackedEncoder(SIZE, embedding=E, units=H, layers=2)
    straight.build((None, None))
    straight.set_weights(encoder.get_weights())
    found = encoder(tf.constant(IDS))
    for b, length in enumerate(LENGTHS):
        turned = straight(tf.constant(IDS[b : b + 1, :length][:, ::-1]))
        np.testing.assert_allclose(found.summary[b], turned.summary[0], atol=1e-6)
        np.testing.assert_allclose(found.values[b, :length], turned.values[0, ::-1], atol=1e-6)
    assert relative(found.summary, straight(tf.constant(IDS)).summary) > 0.05


def test_the_summary_is_what_was_read_last():
    both = prepared("bidirectional", layers=1)(tf.constant(IDS))
    for b, length in enumerate(LENGTHS):
        forward, backward = both.values[b, length - 1, :H], both.values[b, 0, H:]
        np.testing.assert_allclose(both.summary[b], np.concatenate([forward, backward]), atol=1e-6)
    stacked = prepared("stacked", "lstm")(tf.constant(IDS))
    for b, length in enumerate(LENGTHS):
        np.testing.assert_allclose(stacked.summary[b], stacked.values[b, length - 1], atol=1e-6)


def test_gnmt_is_residual_from_the_third_layer():
    """By hand: layer 2 sees both ways and is not added to; layers 3 and 4 are."""
    encoder = prepared("gnmt", layers=4)
    first, *above = encoder.stack
    x = encoder.embedding(IDS[:1])
    y, *_ = first(x)
    assert y.shape[-1] == 2 * H
    y, _ = run(above[0], y)
    for layer in above[1:]:
        found, last = run(layer, y)
        y = y + found
    encoded = encoder(tf.constant(IDS[:1]))
    np.testing.assert_allclose(encoded.values, y, atol=1e-6)
    np.testing.assert_allclose(encoded.summary, last, atol=1e-6)


def test_convolutions_keep_features_apart_and_see_their_n_grams():
    """Kalchbrenner and Blunsom 2013, section 3: widths 2 and 3 by hand in NumPy."""
    encoder = prepared("convolutional", layers=2)
    dense, two, three = encoder.stack
    x = encoder.embedding(IDS[:1]).numpy()[0] @ dense.kernel.numpy() + dense.bias.numpy()
    for layer, before in ((two, 0), (three, 1)):
        kernel, bias = layer.kernel.numpy()[..., 0], layer.bias.numpy()
        padded = np.pad(x, [[before, len(kernel) - 1 - before], [0, 0]])
        x = np.array([(padded[t : t + len(kernel)] * kernel).sum(axis=0) for t in range(len(x))])
        x = np.tanh(x + bias)
    encoded = encoder(tf.constant(IDS[:1]))
    np.testing.assert_allclose(encoded.values[0], x, atol=1e-6)
    np.testing.assert_allclose(encoded.summary[0], x.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_dropout_only_in_training(name):
    encoder, ids = prepared(name, dropout=0.5), tf.constant(IDS)
    np.testing.assert_array_equal(encoder(ids).values, encoder(ids, training=False).values)
    first, second = (encoder(ids, training=True).values for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("name", ["bidirectional", "convolutional"])
def test_nothing_but_padding(name):
    encoded = prepared(name)(tf.zeros([2, 4], tf.int32))
    assert np.isfinite(encoded.values).all() and np.isfinite(encoded.summary).all()


@pytest.mark.parametrize("name", catalog.ENCODERS)
def test_saved_and_loaded(name, tmp_path):
    encoder = catalog.ENCODERS[name]()
    ids = keras.Input([None], dtype="int32")
    model = keras.Model(ids, list(encoder(ids)))
    scatter(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert len(loaded.weights) == len(model.weights)
    for a, b in zip(loaded(IDS), model(IDS), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gnmt_of_one_layer_is_refused():
    with pytest.raises(ValueError) as error:
        GNMTEncoder(SIZE, layers=1)
    assert str(error.value) == (
        "layers: expected 2 or more (the first reads both ways), received 1; "
        "use BidirectionalEncoder for one."
    )


def test_the_table_names_every_encoder():
    made = {name: type(make(SIZE, layers=2)) for name, make in ENCODERS.items()}
    assert made == {
        "bidirectional": BidirectionalEncoder,
        "stacked": StackedEncoder,
        "reversed": StackedEncoder,
        "gnmt": GNMTEncoder,
        "convolutional": ConvolutionalEncoder,
    }
