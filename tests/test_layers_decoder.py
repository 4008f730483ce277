"""The decoder: a step at a time is the whole target, padded is alone, the readouts by hand."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells.base import matmul
from kerasrnn.layers.decoder import CONDITIONINGS, Decoder
from kerasrnn.layers.encoders import Encoded
from kerasrnn.layers.readout import READOUTS
from tests import catalog
from tests.recurrent_cases import relative, scatter, values

H, E, SIZE, V, C = 4, 3, 11, 4, 5  # V as H, for the dot
REAL = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool)
IDS = np.array([[2, 5, 6, 7, 8], [2, 9, 0, 0, 0], [2, 4, 10, 6, 0]], np.int32)


def encoded(rows=slice(None), length=4, noise=0.0) -> Encoded:
    m = values(3, 4, V, seed=1).numpy()
    m[~REAL] += noise
    summary = values(3, C, seed=2).numpy()
    parts = m[rows, :length], REAL[rows, :length], summary[rows]
    return Encoded(*map(tf.constant, parts))


def prepared(conditioning="attention", readout="maxout", cell="gru", layers=2, **options):
    decoder = Decoder(
        SIZE,
        embedding=E,
        cell=cell,
        units=H,
        layers=layers,
        conditioning=conditioning,
        readout=readout,
        **options,
    )
    decoder.build((None, None), ((None, None, V), (None, None), (None, C)))
    scatter(decoder, scale=0.7)
    return decoder


# Every conditioning with two readouts, each kind of cell and depth among them.
KINDS = [
    (conditioning, READOUTS[(i + j) % len(READOUTS)], *cell)
    for (i, conditioning), cell in zip(
        enumerate(CONDITIONINGS),
        itertools.cycle([("gru", 1), ("lstm", 2), ("gru", 3), ("jordan", 1), ("lstm", 1)]),
        strict=False,
    )
    for j in (0, 2)
]


def stepped(decoder, source, ids):
    """Logits [B, T, V] and weights [B, T, S] or None, one id after the other."""
    memory, state = decoder.memory(source), decoder.start(source)
    logits, weights = [], []
    for t in range(ids.shape[1]):
        now, state, looked = decoder.step(tf.constant(ids[:, t]), state, memory)
        logits.append(now)
        weights.append(looked)
    return np.stack(logits, 1), None if weights[0] is None else np.stack(weights, 1)


@pytest.mark.parametrize(("conditioning", "readout", "cell", "layers"), KINDS)
def test_steps_are_the_whole_target_and_padded_is_alone(conditioning, readout, cell, layers):
    decoder = prepared(conditioning, readout, cell, layers)
    whole = decoder(tf.constant(IDS), encoded(noise=30.0)).numpy()
    assert whole.shape == (3, 5, SIZE) and whole.dtype == np.float32
    found, weights = stepped(decoder, encoded(), IDS)
    np.testing.assert_allclose(found, whole, atol=2e-5)
    assert (weights is not None) == decoder.attends
    if decoder.attends:
        np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-6)
        assert (weights.transpose(0, 2, 1)[~REAL] == 0).all()
    for b, length in enumerate((IDS != 0).sum(axis=1)):
        source = encoded(slice(b, b + 1), REAL[b].sum())
        alone, _ = stepped(decoder, source, IDS[b : b + 1, :length])
        np.testing.assert_allclose(whole[b, :length], alone[0], atol=2e-5)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_id_and_the_source_are_looked_at(conditioning):
    decoder, source = prepared(conditioning), encoded()
    before = decoder(tf.constant(IDS), source).numpy()
    for t in range(IDS.shape[1]):
        changed = IDS.copy()
        changed[0, t] = 3
        after = decoder(tf.constant(changed), source).numpy()
        np.testing.assert_allclose(after[0, :t], before[0, :t], atol=1e-6, err_msg="the future")
        assert np.abs(after[0, t:] - before[0, t:]).max(axis=1).min() > 1e-5
    other = source._replace(summary=-source.summary, values=-source.values)
    after = decoder(tf.constant(IDS), other).numpy()
    assert np.abs(after - before).max(axis=2).min() > 1e-5


def test_the_context_of_every_step_is_more_than_the_first_state():
    """Given at every step the summary reaches step 1 beyond the bridge; once it does not."""
    for conditioning, reaches in (("once", False), ("every_step", True)):
        decoder, source = prepared(conditioning), encoded()
        memory, state = decoder.memory(source), decoder.start(source)
        ids = tf.constant(IDS[:, 0])
        before, *_ = decoder.step(ids, state, memory)
        after, *_ = decoder.step(ids, state, memory + 1.0)
        assert (np.abs(after - before).max() > 1e-4) == reaches


@pytest.mark.parametrize("attention", ["additive", "dot", "scaled_dot", "bilinear"])
def test_every_attention(attention):
    decoder = prepared("attention", "plain", layers=1, attention=attention)
    found, weights = stepped(decoder, encoded(), IDS)
    np.testing.assert_allclose(found, decoder(tf.constant(IDS), encoded()), atol=2e-5)
    assert weights[0, :, :3].std() > 1e-3


@pytest.mark.parametrize("readout", READOUTS)
def test_readouts_by_hand(readout):
    """Bahdanau et al. 2014, appendix A.2.2; Press and Wolf 2017."""
    decoder, source = prepared("attention", readout, layers=1), encoded()
    ids, (state,) = tf.constant(IDS[:, 0]), decoder.start(source)
    cell, x = decoder.stack[0].cell, decoder.embedding(ids)
    memory = decoder.memory(source)
    (h, context, _), _ = cell.step(cell.project(x), state[0], matmul, memory)
    t = np.concatenate([h, context] + [x] * ("maxout" in readout), axis=1)
    if readout != "plain":
        t = t @ decoder.features.kernel.numpy() + decoder.features.bias.numpy()
        t = t + x if readout == "deep" else t
        t = np.maximum(t[:, :E], t[:, E:]) if "maxout" in readout else np.tanh(t)
    if "tied" in readout:
        wanted = t @ decoder.embedding.embeddings.numpy().T + decoder.readout_bias.numpy()
    else:
        wanted = t @ decoder.readout.kernel.numpy() + decoder.readout.bias.numpy()
    found, *_ = decoder.step(ids, [state], memory)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_layers_above_are_residual():
    decoder = prepared("attention", "plain", layers=3)
    source, ids = encoded(), tf.constant(IDS)
    before = decoder(ids, source).numpy()
    for layer in decoder.stack[1:]:  # a layer that says nothing leaves the one below
        for w in layer.weights:
            w.assign(np.zeros(w.shape))
    for bridge in decoder.bridge[1:]:
        for w in bridge.weights:
            w.assign(np.zeros(w.shape))
    alone = prepared("attention", "plain", layers=1)
    parts = [(d.embedding, d.stack[0], d.bridge[0], d.readout) for d in (alone, decoder)]
    for to, by in zip(*parts, strict=True):
        to.set_weights(by.get_weights())
    np.testing.assert_allclose(decoder(ids, source), alone(ids, source), atol=1e-6)
    assert relative(before, alone(ids, source)) > 0.05


def test_layers_above_take_the_context():
    for conditioning, width in (("attention", V), ("every_step", C), ("once", 0)):
        decoder = prepared(conditioning, layers=2)
        assert decoder.stack[1].cell.kernel.shape[0] == H + width


def test_tied_readouts_have_one_matrix():
    """Where the readout is tied, V × E stands once among the weights."""
    for readout in READOUTS:
        shapes = [tuple(w.shape) for w in prepared("attention", readout).weights]
        table = shapes.count((SIZE, E)) + shapes.count((E, SIZE)) + shapes.count((H + V, SIZE))
        assert table == (1 if "tied" in readout else 2), readout


def test_dropout_only_in_training():
    decoder, ids = prepared(dropout=0.5), tf.constant(IDS)
    np.testing.assert_array_equal(decoder(ids, encoded()), decoder(ids, encoded(), training=False))
    first, second = (decoder(ids, encoded(), training=True) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_the_dot_needs_equal_sizes():
    decoder = Decoder(SIZE, units=H, attention="dot")
    with pytest.raises(ValueError, match="received 4 and 6; use Bilinear, or make the sizes eq"):
        decoder.build((None, None), ((None, None, 6), (None, None), (None, C)))


def test_a_context_is_dropped_only_where_it_is_fed():
    message = (
        "context_dropout: expected 0 with conditioning=luong, received 0.3; it is of attention"
    )
    with pytest.raises(ValueError, match=message):
        Decoder(9, conditioning="luong", context_dropout=0.3)
    decoder = Decoder(9, units=4, conditioning="hard", context_dropout=0.3)
    decoder.build((None, None), ((None, None, 6), (None, None), (None, C)))
    assert decoder.stack[0].cell.dropout == 0.3


@pytest.mark.parametrize("name", catalog.DECODERS)
def test_saved_and_loaded(name, tmp_path):
    decoder, ids = catalog.DECODERS[name](), keras.Input([None], dtype="int32")
    source = Encoded(keras.Input([None, V]), keras.Input([None], dtype="bool"), keras.Input([C]))
    model = keras.Model([ids, *source], decoder(ids, source))
    scatter(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    given = [tf.constant(IDS), *encoded()]
    np.testing.assert_array_equal(loaded(given), model(given))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    plain = prepared("input_feeding", "maxout_tied", cell="lstm")
    keras.config.set_dtype_policy(policy)
    try:
        half = prepared("input_feeding", "maxout_tied", cell="lstm")
        half.set_weights(plain.get_weights())
        found = half(tf.constant(IDS), encoded())
        one_by_one, _ = stepped(half, encoded(), IDS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == tf.float32
    assert 0 < relative(found, plain(tf.constant(IDS), encoded())) < 0.05
    assert relative(one_by_one, found) < 0.05
