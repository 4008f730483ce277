"""Nats, perplexity and bits per character against numbers made by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity

# p(target) of the four targets: 1/2, 1/4, 1/8 and 3/4; id 0, padding, has no share.
SHARES = [
    [[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]],
    [[0.75, 0.125, 0.125], [0.75, 0.125, 0.125]],
]
LOGITS = np.pad(np.log(SHARES), [(0, 0), (0, 0), (1, 0)], constant_values=-1e4).astype("float32")
TARGETS = np.array([[1, 2], [3, 1]])
NATS = -np.log([[0.5, 0.25], [0.125, 0.75]])
CHARACTERS = [0, 1, 3, 5]  # the four targets write 1, 3, 5 and 1
WEIGHTS = np.array([[0.5, 2.0], [0.0, 3.0]])


def value(metric, *updates) -> float:
    for update in updates:
        metric.update_state(*update)
    return float(metric.result())


def test_each_token_counts_once():
    once = [(TARGETS, LOGITS)]
    assert value(Nats(), *once) == pytest.approx(NATS.sum() / 4)
    assert value(Perplexity(), *once) == pytest.approx((2 * 4 * 8 * 4 / 3) ** 0.25)
    bits = (1 + 2 + 3 + math.log2(4 / 3)) / (1 + 3 + 5 + 1)
    assert value(BitsPerCharacter(CHARACTERS), *once) == pytest.approx(bits)


def test_logits_need_not_be_normalized():
    assert value(Nats(), (TARGETS, LOGITS + 7.5)) == pytest.approx(NATS.mean(), rel=1e-5)


def test_padding_counts_nothing():
    padded = np.pad(TARGETS, [(0, 0), (0, 2)]), np.pad(LOGITS, [(0, 0), (0, 2), (0, 0)])
    for metric in (Nats, Perplexity, lambda: BitsPerCharacter([9, 1, 3, 5])):
        assert value(metric(), padded) == pytest.approx(value(metric(), (TARGETS, LOGITS)))


def test_uneven_batches_weigh_by_their_tokens():
    uneven = [(TARGETS, LOGITS), (TARGETS[:1, :1], LOGITS[:1, :1])]
    nats = [*NATS.ravel(), math.log(2)]
    assert value(Nats(), *uneven) == pytest.approx(np.mean(nats))
    assert value(Perplexity(), *uneven) == pytest.approx(math.exp(np.mean(nats)))
    wanted = np.sum(nats) / math.log(2) / (1 + 3 + 5 + 1 + 1)
    assert value(BitsPerCharacter(CHARACTERS), *uneven) == pytest.approx(wanted)


def test_weights_of_tokens():
    weighted = [(TARGETS, LOGITS, WEIGHTS)]
    wanted = (NATS * WEIGHTS).sum() / 5.5
    assert value(Nats(), *weighted) == pytest.approx(wanted)
    assert value(Perplexity(), *weighted) == pytest.approx(math.exp(wanted))
    bits = (NATS * WEIGHTS).sum() / math.log(2) / (0.5 * 1 + 2 * 3 + 0 * 5 + 3 * 1)
    assert value(BitsPerCharacter(CHARACTERS), *weighted) == pytest.approx(bits)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_weights_of_rows_are_not_taken_for_weights_of_steps(shape):
    rows = np.reshape([2.0, 0.5], shape)
    nats = (NATS * [[2.0], [0.5]]).sum()
    assert value(Nats(), (TARGETS, LOGITS, rows)) == pytest.approx(nats / 5)
    bits = nats / math.log(2) / (2 * (1 + 3) + 0.5 * (5 + 1))
    assert value(BitsPerCharacter(CHARACTERS), (TARGETS, LOGITS, rows)) == pytest.approx(bits)


def test_one_weight_for_all_changes_no_mean():
    assert value(Nats(), (TARGETS, LOGITS, 0.25)) == pytest.approx(NATS.mean())


def test_weights_reach_the_metrics_through_evaluate():
    model = keras.Sequential([keras.Input((2, 4)), keras.layers.Activation("linear")])
    metrics = [Nats(), BitsPerCharacter(CHARACTERS)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, weighted_metrics=metrics)
    found = model.evaluate(
        LOGITS, TARGETS, sample_weight=np.array([2.0, 0.5]), verbose=0, return_dict=True
    )
    assert found["nats"] == pytest.approx((NATS * [[2.0], [0.5]]).sum() / 5)


def test_reset_forgets():
    for metric in (Nats(), Perplexity(), BitsPerCharacter(CHARACTERS)):
        first = value(metric, (TARGETS, LOGITS))
        assert value(metric, (TARGETS[:1], LOGITS[:1])) != pytest.approx(first)
        metric.reset_state()
        assert value(metric, (TARGETS, LOGITS)) == pytest.approx(first)


def test_no_token_is_no_division_by_zero():
    assert float(Nats().result()) == 0
    assert float(BitsPerCharacter(CHARACTERS).result()) == 0
    assert value(BitsPerCharacter([0, 0, 1, 1]), (TARGETS[:, :1] * 0, LOGITS[:, :1])) == 0


@pytest.mark.parametrize("metric", [Nats("n"), Perplexity("p"), BitsPerCharacter(CHARACTERS, "b")])
def test_a_metric_comes_back_from_its_configuration(metric):
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric) and again.name == metric.name
    assert value(again, (TARGETS, LOGITS)) == value(metric, (TARGETS, LOGITS))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sums_stay_float32_in_mixed_precision(policy):
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        metric = Nats()
        half = tf.cast(np.tile(LOGITS, (1, 3000, 1)), policy.removeprefix("mixed_"))
        targets = np.tile(TARGETS, (1, 3000))  # more tokens than float16 can count
        assert metric.total.dtype == "float32"
        assert value(metric, *[(targets, half)] * 10) == pytest.approx(NATS.mean(), rel=5e-3)
        assert float(metric.count) == 120_000
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def test_traced_equals_eager():
    metric = BitsPerCharacter(CHARACTERS)
    update = tf.function(lambda y, p, w: metric.update_state(y, p, w))
    update(TARGETS, LOGITS, WEIGHTS)
    again = BitsPerCharacter(CHARACTERS)
    assert float(metric.result()) == pytest.approx(value(again, (TARGETS, LOGITS, WEIGHTS)))
