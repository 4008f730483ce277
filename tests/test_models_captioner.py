"""The captioner: what attention adds to its loss, hard attention, features for images, learning."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from kerasrnn.attention.losses import doubly_stochastic, entropy, reinforce
from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.distribution import distribute
from kerasrnn.layers import Decoder, ImageEncoder
from kerasrnn.losses.tokens import TokenCrossEntropy
from kerasrnn.models.captioner import Captioner
from kerasrnn.text.tokenizers import END, START, WordTokenizer
from tests.recurrent_cases import looped, scatter

WORDS = WordTokenizer(["a", "red", "blue", "circle", "square"])
COLOURS = np.array([[200, 20, 20], [20, 20, 200], [20, 200, 20], [230, 230, 30]], np.uint8)
NOISE = np.random.default_rng(0).integers(0, 26, (4, 16, 16, 3)).astype("uint8")
IMAGES = COLOURS[:, np.newaxis, np.newaxis] + NOISE
TARGET = np.array([[4, 5, 7, 0], [4, 6, 8, 0], [4, 6, 7, 4], [8, 0, 0, 0]], np.int32)
KINDS = {"first_input": "plain", "gated": "deep", "hard": "deep"}


def make(conditioning="gated", scattered=True, **options) -> Captioner:
    both = {"embedding": 8, "cell": "lstm", "units": 9}
    decoder = Decoder(WORDS.size, conditioning=conditioning, readout=KINDS[conditioning], **both)
    model = Captioner(WORDS, ImageEncoder(image_size=16), decoder, **options)
    looped(model)
    if scattered:
        scatter(model.decoder, seed=1, scale=0.5)
    return model


def batch(rows=slice(None), padding=0):
    target, lengths = TARGET[rows], (TARGET[rows] != 0).sum(axis=1)
    target_in = np.concatenate([np.full([len(target), 1], START), target], axis=1)
    target_out = np.pad(target, [[0, 0], [0, 1]])
    target_out[np.arange(len(target)), lengths] = END
    parts = [np.pad(x, [[0, 0], [0, padding]]) for x in (target_in, target_out)]
    target_in, target_out = (tf.constant(x, tf.int32) for x in parts)
    return (tf.constant(IMAGES[rows]), target_in), target_out


# --- what attention adds to the loss ---


def test_the_doubly_stochastic_penalty_by_hand():
    α = np.random.default_rng(1).dirichlet(np.ones(5), (3, 4)).astype("float32")
    real = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], np.float32)
    wanted = [((1 - α[b, : int(n)].sum(axis=0)) ** 2).sum() for b, n in enumerate(real.sum(1))]
    np.testing.assert_allclose(doubly_stochastic(α, real), wanted, rtol=1e-5)


def test_entropy_and_reinforce_by_hand():
    α = tf.constant(np.random.default_rng(1).dirichlet(np.ones(3), (2, 2)), tf.float32)
    real = tf.constant([[1.0, 1.0], [1.0, 0.0]])
    rows = (-α * tf.math.log(α)).numpy().sum(axis=2) * real.numpy()
    np.testing.assert_allclose(entropy(α, real), rows.sum(axis=1), rtol=1e-5)
    place = tf.one_hot([[2, 0], [1, 1]], 3)
    reward = tf.constant([0.5, -2.0])
    with tf.GradientTape() as tape:
        tape.watch([α, reward])
        loss = tf.reduce_sum(reinforce(α, place, real, reward))
    slope, nothing = tape.gradient(loss, [α, reward])
    assert nothing is None
    wanted = -reward[:, None, None] * place / α * real[..., None]
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)


def test_the_loss_in_training_is_the_papers():
    """-log p and λ times the penalty of each caption, summed, by real tokens."""
    (images, target_in), target_out = batch(padding=2)
    model = make(coverage_weight=0.7)
    model.compile(loss=TokenCrossEntropy())
    features = model.encoder.features(images)  # statistics of a batch would differ in training
    logits = model((features, target_in), training=True)
    extra = sum(map(float, model.losses))
    encoded = model.encoder(features)
    _, looked = model.decoder(target_in, encoded, return_attention=True)
    real = (target_in.numpy() != 0).astype("float32")
    penalty = 0.7 * doubly_stochastic(looked.weights, real).numpy().sum()
    assert extra == pytest.approx(penalty / real.sum(), rel=1e-5) and extra > 0.01
    assert (target_in.numpy() != 0).sum() == (target_out.numpy() != 0).sum()
    model((features, target_in), training=False)
    assert not model.losses
    assert logits.shape == (4, 7, WORDS.size)


def test_hard_attention_adds_reinforce_and_moves_its_baseline():
    (images, target_in), target_out = batch()
    model = make("hard", coverage_weight=0.0, reinforce_weight=0.3, entropy_weight=0.2)
    features = model.encoder.features(images)
    model.baseline.assign(-2.0)
    seeds = model.decoder.stack[0].cell.seeds.state
    before = seeds.numpy()
    logits = model((features, target_in), training=True)
    extra = sum(map(float, model.losses))
    seeds.assign(before)  # the same draws once more
    again, looked = model.decoder(
        target_in, model.encoder(features), training=True, return_attention=True
    )
    np.testing.assert_allclose(again, logits, atol=1e-6)
    real = (target_in.numpy() != 0).astype("float32")
    nats = keras.losses.sparse_categorical_crossentropy(target_out, logits, from_logits=True)
    log_p = -(nats.numpy() * real).sum(axis=1)
    chosen = (looked.place * np.log(looked.weights)).numpy().sum(axis=2) * real
    wanted = -0.3 * ((log_p + 2.0) * chosen.sum(axis=1)).sum()
    wanted -= 0.2 * entropy(looked.weights, real).numpy().sum()
    assert extra == pytest.approx(wanted / real.sum(), rel=1e-4)
    assert float(model.baseline) == pytest.approx(0.9 * -2.0 + 0.1 * log_p.mean(), rel=1e-5)


def test_places_are_drawn_by_their_weights():
    """Of many rows half take the expectation; of the others each place has its share."""
    model = make("hard")
    features = tf.repeat(model.encoder.features(IMAGES[:1]), 4000, axis=0)
    target_in = tf.repeat(batch()[0][1][:1], 4000, axis=0)
    encoded = model.encoder(features)
    _, looked = model.decoder(target_in, encoded, training=True, return_attention=True)
    sums = looked.place.numpy().sum(axis=2)
    drawn = sums[:, 0] == 1
    assert ((sums == 1) | (sums == 0)).all() and (sums == sums[:, :1]).all()
    assert abs(drawn.mean() - 0.5) < 0.03
    share = looked.place.numpy()[drawn, 0].mean(axis=0)
    np.testing.assert_allclose(share, looked.weights[0, 0], atol=0.02)
    _, calm = model.decoder(target_in[:2], model.encoder(features[:2]), return_attention=True)
    likeliest = calm.weights.numpy().argmax(axis=2)
    np.testing.assert_array_equal(calm.place.numpy().argmax(axis=2), likeliest)


def test_places_may_be_drawn_when_describing():
    model = make("hard")
    rules = BeamRules(beam=1, min_length=3, banned=model.banned_ids)

    def scores():
        found = [model.captions(IMAGES[:1], rules=rules, max_length=4) for _ in range(4)]
        return {float(one.score[0, 0]) for one in found}

    looked, model.drawn = scores(), True
    assert len(looked) == 1 and len(scores()) > 1
    with pytest.raises(InputError, match=r"^drawn: expected hard attention, got gated"):
        make("gated").drawn = True
    with pytest.raises(InputError, match=r"^drawn: expected false: an export looks at"):
        model.served().check()


# --- features, replicas ---


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", ["gated"])
def test_features_and_images_have_one_loss(conditioning):
    """`fit` from cached features of a frozen network is `fit` from images."""
    (images, target_in), target_out = batch()
    found = []
    for cached in (False, True):
        keras.utils.set_random_seed(3)
        model = make(conditioning)
        model.encoder.network.trainable = False
        model.encoder.follows_statistics = False
        model.compile(keras.optimizers.Adam(1e-2))
        x = model.encoder.features(images) if cached else images
        data = tf.data.Dataset.from_tensors(((x, target_in), target_out)).repeat(3)
        found.append(model.fit(data, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.slow
def test_two_replicas_learn_what_one_learns(mirrored):
    (images, target_in), target_out = batch()
    begin, changes = make().get_weights(), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            model = make("gated")
            model.set_weights(begin)
            model.encoder.network.trainable = False
            model.encoder.follows_statistics = False
            model.compile(keras.optimizers.SGD(0.5), TokenCrossEntropy(), [])
        before = model.decoder.get_weights()
        data = tf.data.Dataset.from_tensor_slices(((images, target_in), target_out)).batch(4)
        model.fit(data, verbose=0)
        after = model.decoder.get_weights()
        changes.append([b - a for a, b in zip(before, after, strict=True)])
    for one, two in zip(*changes, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def padded_shards(data, rows: int):
    """A function: shard -> its part of the first `rows` rows, zeros where there are too few."""

    def shard_of(shard):
        index, count = shard
        part = -(-rows // count)

        def of(x):
            mine = x[:rows][index * part : (index + 1) * part]
            return tf.pad(mine, [[0, part - len(mine)], *[[0, 0]] * (len(x.shape) - 1)])

        return tf.data.Dataset.from_tensors(tree.map_structure(of, data))

    return shard_of


@pytest.mark.parametrize("rows", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_batch_normalisation_does_not_count_rows_of_padding(mirrored, rows):
    """Three rows on two replicas are two and one; of one row the second replica has none."""
    begin, weights = make(coverage_weight=1.0).get_weights(), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            model = make(coverage_weight=1.0)
            model.set_weights(begin)
            model.compile(keras.optimizers.SGD(0.1), TokenCrossEntropy(), [])
        model.fit(distribute(padded_shards(batch(), rows), strategy), verbose=0)
        weights.append(model.get_weights())
    assert any((a != b).any() for a, b in zip(begin, weights[0], strict=True))
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)


def test_the_baseline_does_not_count_rows_of_padding(mirrored):
    """All places of the features are alike, so the draws do not change log p."""
    (images, target_in), target_out = batch()
    features = tf.repeat(make().encoder.features(images)[:, :1], 64, axis=1)
    begin, baselines = make("hard").get_weights(), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            model = make("hard")
            model.set_weights(begin)
            model.compile(keras.optimizers.SGD(0.0), TokenCrossEntropy(), [])
        data = padded_shards(((features, target_in), target_out), 3)
        model.fit(distribute(data, strategy), verbose=0)
        baselines.append(float(model.baseline.numpy()))
    assert baselines[1] == pytest.approx(baselines[0], rel=1e-5) and baselines[0] < -0.1


@pytest.mark.slow
def test_hard_attention_learns_on_two_replicas(mirrored):
    (images, target_in), target_out = batch()
    with mirrored.scope():
        model = make("hard")
        model.compile(keras.optimizers.SGD(0.01), TokenCrossEntropy(), [])
    before = model.decoder.get_weights()
    data = tf.data.Dataset.from_tensor_slices(((images, target_in), target_out)).batch(4)
    loss = model.fit(data, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and model.baseline.numpy() < -0.1
    for a, b in zip(before, model.decoder.get_weights(), strict=True):
        assert np.isfinite(b).all() and a.shape == b.shape
    assert any((a != b).any() for a, b in zip(before, model.decoder.get_weights(), strict=True))


# --- captions ---


@pytest.mark.slow
@pytest.mark.parametrize("conditioning", KINDS)
def test_it_learns_captions_by_heart(conditioning, tmp_path):
    keras.utils.set_random_seed(1)
    model = make(conditioning, scattered=False)
    model.encoder.network.trainable = False
    model.encoder.follows_statistics = False
    model.compile(keras.optimizers.Adam(2e-2))
    data = tf.data.Dataset.from_tensors(batch()).repeat(80 if model.attends else 200)
    model.fit(data, verbose=0)
    texts = ["a red circle", "a blue square", "a blue circle a", "square"]
    assert model.caption(IMAGES, max_length=6) == texts
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    found, wanted = (m.captions(IMAGES, max_length=6) for m in (again, model))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    if model.attends:
        assert wanted.attention.shape[2:] == (8, 8)
        sums = wanted.attention.sum(axis=(2, 3))
        written = wanted.tokens[:, 0] != 0
        np.testing.assert_allclose(sums, written, atol=1e-5)
    else:
        assert not wanted.attention.any()


def test_alone_is_in_company_and_any_size():
    model = make()
    large = np.kron(IMAGES, np.ones([1, 3, 2, 1], np.uint8))
    together = model.captions(large, max_length=5)
    for i in range(4):
        alone = model.captions(large[i : i + 1], max_length=5)
        assert alone.text[0, 0] == together.text[i, 0]
        np.testing.assert_allclose(alone.score[0], together.score[i], atol=1e-5)


def test_what_is_refused():
    model = make()
    for images in (IMAGES[0], IMAGES.astype("float32"), IMAGES[..., 0]):
        with pytest.raises(InputError, match=r"^images: expected uint8 \[B, h, w, 3\], got "):
            model.caption(images)
    for images in (IMAGES[:0], IMAGES[:, :0], IMAGES[:, :, :0]):
        with pytest.raises(InputError, match=r"^images: expected an image or more, of a pixel or "):
            model.caption(images)
    with pytest.raises(InputError, match=r"^max_length: expected 1 or more, got 0"):
        model.caption(IMAGES, max_length=0)
    with pytest.raises(InputError, match=r"^n_best"):
        model.caption(IMAGES, rules=BeamRules(beam=2, n_best=3))
