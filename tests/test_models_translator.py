"""The translator: its loss, scheduled sampling, saving, and text in, text out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import BidirectionalEncoder
from kerasrnn.losses.metrics import Nats
from kerasrnn.losses.tokens import TokenCrossEntropy
from kerasrnn.models.translator import Translator
from kerasrnn.text.tokenizers import END, ENDED, PAD, START, UNKNOWN, CharTokenizer, WordTokenizer
from tests.recurrent_cases import looped, relative, scatter

WORDS = WordTokenizer(["the", "cat", "sat", "on", "mat", ",", "rat", "ran"])
LETTERS = CharTokenizer(list("abcdefg"))
SOURCE = np.array([[5, 3, 0, 0, 0], [6, 4, 3, 0, 0], [7, 8, 9, 6, 3], [4, 5, 6, 7, 3]], np.int32)
TARGET = np.array([[8, 0, 0, 0, 0], [9, 0, 0, 0, 0], [4, 5, 6, 7, 8], [7, 9, 5, 4, 0]], np.int32)


def make(tokenizer=WORDS, conditioning="attention", **options) -> Translator:
    """Weights as none has by default: what it writes differs from source to source."""
    encoder = BidirectionalEncoder(tokenizer.size, embedding=6, units=5)
    both = {"embedding": 6, "units": 5, "conditioning": conditioning}
    decoder = Decoder(tokenizer.size, readout="maxout_tied", **both)
    model = Translator(tokenizer, tokenizer, encoder, decoder, **options)
    scatter(looped(model), seed=1, scale=0.8)
    return model


def batch(rows=slice(None), padding=0):
    """((source, target_in), target_out) of some rows, padded further."""
    source, target = SOURCE[rows], TARGET[rows]
    length = (target != 0).sum(axis=1)
    target_in = np.concatenate([np.full([len(target), 1], START), target], axis=1)
    target_out = np.pad(target, [[0, 0], [0, 1]])
    target_out[np.arange(len(target)), length] = END
    parts = [np.pad(x, [[0, 0], [0, padding]]) for x in (source, target_in, target_out)]
    source, target_in, target_out = (tf.constant(x, tf.int32) for x in parts)
    return (source, target_in), target_out


# --- loss ---


def numpy_loss(targets, logits, ε, weight=1.0):
    """Σ over the real tokens of -Σ_v q(v) log p(v), per real token; q as in the paper."""
    V = logits.shape[-1]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    q = (1 - ε) * np.eye(V)[targets] + ε / V
    real = (targets != 0) * weight
    return (-(q * log_p).sum(axis=-1) * real).sum() / real.sum()


@pytest.mark.parametrize("ε", [0.0, 0.1, 0.6])
def test_label_smoothing_is_szegedys(ε):
    random = np.random.default_rng(0)
    logits, targets = 3 * random.normal(size=(4, 6, 10)), batch()[1].numpy()
    loss = TokenCrossEntropy(ε)
    assert float(loss(targets, logits)) == pytest.approx(numpy_loss(targets, logits, ε), rel=1e-6)
    rows = np.array([1.0, 0.0, 2.5, 0.5])
    for weight in (rows, random.uniform(size=targets.shape)):
        wide = weight[:, None] if weight.ndim == 1 else weight
        wanted = numpy_loss(targets, logits, ε, wide)
        assert float(loss(targets, logits, weight)) == pytest.approx(wanted, rel=1e-6)


def test_a_batch_of_padding_costs_nothing():
    loss = TokenCrossEntropy()(np.zeros([2, 3], np.int32), np.ones([2, 3, 5], np.float32))
    assert float(loss) == 0.0


def test_label_smoothing_out_of_range():
    for ε in (-0.1, 1.0):
        with pytest.raises(InputError) as error:
            TokenCrossEntropy(ε)
        assert str(error.value) == (
            f"label_smoothing: expected a share from 0 to below 1, got {ε}; use 0.1"
        )


def gradients(model, inputs, targets):
    with tf.GradientTape() as tape:
        loss = TokenCrossEntropy(0.1)(targets, model(inputs, training=True))
    slopes = tape.gradient(loss, model.trainable_weights)
    return [loss.numpy(), *(tf.convert_to_tensor(g).numpy() for g in slopes)]


def test_padding_and_order_do_not_change_the_gradient():
    model = make(shared_embedding=True)
    wanted = gradients(model, *batch())
    for rows, padding in ((slice(None), 3), ([2, 0, 3, 1], 0)):
        found = gradients(model, *batch(rows, padding))
        assert max(relative(f, w) for f, w in zip(found, wanted, strict=True)) < 1e-5
    # A batch is the mean of its parts by their tokens, not by their sentences.
    parts = [batch([0, 1]), batch([2, 3])]
    tokens = [np.count_nonzero(targets) for _, targets in parts]
    assert tokens == [4, 11]
    each = [gradients(model, *part) for part in parts]
    for w, *halves in zip(wanted, *each, strict=True):
        mean = sum(n * h for n, h in zip(tokens, halves, strict=True)) / sum(tokens)
        assert relative(mean, w) < 1e-5
        assert relative(sum(halves) / 2, w) > 1e-3


@pytest.mark.slow
def test_replicas_with_uneven_tokens_learn_what_one_learns(mirrored):
    """The first replica has 4 real tokens, the second 11."""
    data = tf.data.Dataset.from_tensors(batch()).repeat(2)
    begin = make().get_weights()

    def fitted():
        model = make()
        model.compile(keras.optimizers.SGD(0.5), TokenCrossEntropy(0.1), metrics=[Nats()])
        history = model.fit(data, epochs=1, verbose=0).history
        return model.get_weights(), history["nats"][0], history["loss"][0]

    alone, nats, loss = fitted()
    with mirrored.scope():
        together, nats_together, loss_together = fitted()
    assert nats_together == pytest.approx(nats, rel=1e-5)
    assert loss_together == pytest.approx(loss, rel=1e-5)
    for a, b, before in zip(together, alone, begin, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
        assert np.abs(b - before).max() > 1e-4


# --- scheduled sampling ---


def test_scheduled_sampling_replaces_real_ids_by_guesses():
    model, (source, target) = make(scheduled_sampling=0.999999, seed=3), batch()[0]
    encoded = model.encoder(source)
    guessed = np.argmax(model.decoder(target, encoded), axis=-1)
    found = model._sampled(target, encoded).numpy()
    wanted = np.concatenate([target[:, :1], guessed[:, :-1]], axis=1)
    wanted = np.where(target.numpy() == PAD, PAD, wanted)
    np.testing.assert_array_equal(found, wanted)
    assert (found[:, 0] == START).all() and (found != target.numpy()).any()
    trained = model((source, target), training=True)
    np.testing.assert_allclose(trained, model.decoder(found, encoded, training=True), atol=1e-6)


def test_scheduled_sampling_replaces_a_share():
    model, (source, target) = make(scheduled_sampling=0.3, seed=3), batch()[0]
    source, target = tf.repeat(source, 200, axis=0), tf.repeat(target, 200, axis=0)
    encoded = model.encoder(source)
    guessed = model.decoder(target, encoded).numpy().argmax(axis=-1)[:, :-1]
    before, after = target.numpy()[:, 1:], model._sampled(target, encoded).numpy()[:, 1:]
    visible = (before != 0) & (guessed != before)
    assert np.mean((after != before)[visible]) == pytest.approx(0.3, abs=0.05)


def test_scheduled_sampling_is_off_outside_training():
    model, inputs = make(scheduled_sampling=0.9, seed=3), batch()[0]
    plain = make()
    plain.set_weights(model.get_weights())
    for training in (False, None):
        np.testing.assert_array_equal(model(inputs, training=training), plain(inputs))
    assert relative(model(inputs, training=True), plain(inputs, training=True)) > 1e-2


# --- saving ---


def tables(model) -> int:
    """How many embeddings there are among the weights."""
    return sum(tuple(w.shape) == (WORDS.size, 6) for w in model.weights)


@pytest.mark.parametrize("shared", [True, False])
def test_an_embedding_is_shared_or_not_also_when_loaded(tmp_path, shared):
    model = make(shared_embedding=shared)
    model.save(tmp_path / "m.keras")
    loaded = looped(keras.saving.load_model(tmp_path / "m.keras"))
    assert tables(loaded) == tables(model) == (1 if shared else 2)
    assert (loaded.encoder.embedding is loaded.decoder.embedding) == shared
    np.testing.assert_array_equal(loaded(batch()[0]), model(batch()[0]))


def test_saved_and_loaded(tmp_path):
    model = make(shared_embedding=True)
    model.compile(keras.optimizers.AdamW(0.01, clipvalue=0.5), TokenCrossEntropy(0.1))
    data = tf.data.Dataset.from_tensors(batch())
    model.fit(data, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = looped(keras.saving.load_model(tmp_path / "m.keras"))
    assert loaded.get_config() == model.get_config()
    rules = BeamRules(beam=3, banned=model.banned_ids)
    found, wanted = (m.translations(SOURCES, rules=rules, max_length=8) for m in (loaded, model))
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(f, w)
    # Optimizer and loss come back: one more epoch gives the same weights.
    for one in (model, loaded):
        one.fit(data, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- text ---

SOURCES = ["the cat sat on the mat", "", "rat", "cat , rat , mat , sat , ran on the mat", "ran on"]


@pytest.mark.parametrize("conditioning", ["attention", "every_step"])
def test_a_sentence_alone_and_inside_a_padded_batch(conditioning):
    model = make(conditioning=conditioning)
    rules = BeamRules(beam=4, n_best=3, no_repeat_ngram=2, banned=model.banned_ids)
    options = {"rules": rules, "max_length": 12}
    together = model.translations(SOURCES, **options)
    assert len(set(together.text[:, 0])) >= 4, "too alike to show anything"
    for i, source in enumerate(SOURCES):
        alone = model.translations([source], **options)
        assert alone.text[0].tolist() == together.text[i].tolist()
        np.testing.assert_allclose(alone.score[0], together.score[i], atol=1e-5)
        T, S = alone.attention.shape[1:]
        np.testing.assert_allclose(alone.attention[0], together.attention[i, :T, :S], atol=1e-5)
        assert (together.attention[i, :, S:] == 0).all()
        assert (together.tokens[i, :, T:] == PAD).all()


def test_what_is_given_beside_the_text():
    model = make()
    found = model.translations(SOURCES, max_length=7)
    assert found.source_tokens[2].tolist()[:2] == [b"rat", ENDED.encode()]
    assert set(found.source_tokens[2].tolist()[2:]) == {b""}
    for i, text in enumerate(found.text[:, 0]):
        tokens = found.tokens[i, 0]
        assert found.target_tokens[i].tolist() == [WORDS.pieces[t].encode() for t in tokens]
        assert WORDS.detokenize([tokens]).numpy()[0] == text
        looked = found.attention[i].sum(axis=1)
        np.testing.assert_allclose(looked, tokens != PAD, atol=1e-5)
    assert not set(model.banned_ids) & (set(found.tokens.ravel().tolist()) - {PAD})


@pytest.mark.slow
def test_an_empty_source_gives_nothing():
    for model in (make(), make(LETTERS, "once")):
        assert model.translate(["", ""], max_length=5) == ["", ""]
    assert make().translate([" \t ", "rat"], max_length=5)[0] == ""
    assert make().translate([], max_length=5) == []


def test_without_attention_it_is_zeros():
    model = make(conditioning="every_step")
    found = model.translations(["rat ran"], max_length=4)
    assert found.attention.shape == (1, found.tokens.shape[2], 3)
    assert not found.attention.any()


# --- unknown words ---


def writing_unknowns(conditioning="attention", tokenizer=WORDS) -> Translator:
    model = make(tokenizer, conditioning)
    model.decoder.readout_bias.assign(40.0 * np.eye(tokenizer.size)[UNKNOWN])
    return model


def test_an_unknown_word_becomes_the_source_word_looked_at():
    model = writing_unknowns()
    assert model.translate(["Zebra"], max_length=2) == ["Zebra Zebra"]
    sources = ["Zebra sat, Okapi", "Łoś"]
    found = model.translations(sources, max_length=6)
    assert (found.tokens[:, 0] == UNKNOWN).all()
    for i, words in enumerate((["Zebra", "sat", ",", "Okapi"], ["Łoś"])):
        looked = found.attention[i][:, : len(words)].argmax(axis=1)  # never at the end
        wanted = [words[place] for place in looked]
        assert [w.decode() for w in found.target_tokens[i]] == wanted
        assert found.text[i, 0].decode() == " ".join(wanted).replace(" ,", ",")


def test_unknowns_are_not_written_where_nothing_can_replace_them():
    for model in (writing_unknowns("once"), writing_unknowns(tokenizer=LETTERS)):
        assert UNKNOWN in model.banned_ids
        found = model.translations(["cat"], max_length=6)
        assert UNKNOWN not in found.tokens and "\ufffd" not in found.text[0, 0].decode()
    assert UNKNOWN not in make().banned_ids


# --- precision, defaults, errors ---


@pytest.mark.slow
def test_mixed_precision_trains_and_translates():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make()
        model.compile()
        history = model.fit(tf.data.Dataset.from_tensors(batch()).repeat(8), epochs=2, verbose=0)
        text = model.translate(SOURCES, max_length=6)
    finally:
        keras.config.set_dtype_policy("float32")
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[1] < losses[0]
    assert len(text) == len(SOURCES) and text[1] == "" and text[0]
    assert model.decoder.compute_dtype == "bfloat16"
    assert all(w.dtype == "float32" for w in model.trainable_weights)


def test_compiled_without_arguments():
    model = make()
    model.compile()
    assert isinstance(model.loss, TokenCrossEntropy) and model.optimizer.global_clipnorm == 1.0
    values = model.evaluate(tf.data.Dataset.from_tensors(batch()), return_dict=True, verbose=0)
    assert set(values) == {"loss", "nats", "perplexity"}
    assert values["nats"] == pytest.approx(values["loss"], rel=1e-5)
    assert values["perplexity"] == pytest.approx(np.exp(values["nats"]), rel=1e-5)


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ("rat", {}, "sources: expected a list of strings, got 'rat'; put it in brackets"),
        (["rat", 3], {}, "sources: expected a list of strings, got ['rat', 3]; put it in brackets"),
        (
            ["\udcff"],
            {},
            "sources: expected UTF-8, got '\\udcff'; give it as UTF-8",
        ),
        (["rat"], {"max_length": 0}, "max_length: expected 1 or more, got 0; raise it"),
    ],
)
def test_wrong_arguments(sources, options, message):
    with pytest.raises(InputError) as error:
        make().translate(sources, **options)
    assert str(error.value) == message
