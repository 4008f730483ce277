"""What stands around a step function: greedy, its form, attention, ensembles, unknown words."""

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.sampling import (
    PAD,
    Sampling,
    StepAdapter,
    ensemble,
    greedy,
    most_attended,
    repeat_rows,
    sample,
)
from tests.beam_reference import Automaton
from tests.spelling import LETTERS, V, noisy, spell, words


def aware(ids, state):
    """Says "nose" whatever comes; its attention is on the id that it was fed."""
    path = tf.constant([LETTERS.index(c) for c in "nose$$$$"])
    spoken = tf.gather(path, state)
    return 9.0 * tf.one_hot(spoken, V), state + 1, tf.one_hot(ids, V, dtype=tf.float16)


# --- greedy ---


def test_greedy_spells_the_likeliest_letters():
    decoded = greedy(*words("tide", "", "sail on"), 20)
    assert spell(decoded.ids) == ["tide", "", "sail on"]
    assert decoded.lengths.numpy().tolist() == [4, 0, 7] and decoded.attention is None


def test_greedy_is_sampling_at_temperature_zero():
    begin = tf.range(4, 10), tf.zeros([6], tf.int32)
    found = greedy(noisy, *begin, 25, banned=(PAD, 5))
    wanted = sample(noisy, *begin, 25, Sampling(temperature=0.0), banned=(PAD, 5))
    for a, b in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(set(spell(found.ids))) > 2 and 5 not in found.ids.numpy()


def test_greedy_takes_the_lower_of_equal_ids():
    level = lambda ids, state: (tf.constant([[0.0, 1.0, 2.0, 0.5, 2.0]] * 2), state)  # noqa: E731
    assert greedy(level, tf.constant([4, 4]), (), 2).ids.numpy().tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("decode", [greedy, sample])
def test_each_row_has_its_own_length(decode):
    decoded = decode(*words("tide", "sail", "on", "ocean"), tf.constant([2, 0, 9, -1]))
    assert spell(decoded.ids) == ["ti", "", "on", ""]
    assert decoded.lengths.numpy().tolist() == [2, 0, 2, 0]
    assert decoded.scores.numpy()[[1, 3]].tolist() == [0, 0]


# --- attention ---


@pytest.mark.parametrize("decode", [greedy, sample])
def test_attention_is_reported_row_by_row_and_zero_behind_the_end(decode):
    ids = tf.constant([LETTERS.index("a"), LETTERS.index("y")])
    decoded = decode(aware, ids, tf.constant([0, 2]), 9)
    assert spell(decoded.ids) == ["nose", "se"]
    assert decoded.attention.shape == (2, 5, V) and decoded.attention.dtype == tf.float32
    fed = np.where(decoded.attention.numpy().sum(-1) > 0, most_attended(decoded.attention), PAD)
    assert spell(fed) == ["anos", "ys"]


@pytest.mark.slow
def test_no_steps_have_no_attention():
    decoded = greedy(aware, tf.constant([4, 5]), tf.constant([0, 0]), 0)
    assert decoded.ids.shape == (2, 0) and decoded.attention is None
    traced = tf.function(lambda n: greedy(aware, tf.constant([4]), tf.constant([0]), n).attention)
    assert traced(tf.constant(0)).shape == (1, 0, 1)
    assert traced(tf.constant(3)).shape == (1, 3, V)


# --- the form of a step function ---


@pytest.mark.parametrize(
    "given, message",
    [
        ([1, 2], "step: expected (logits, state) or (logits, state, attention), got list; return"),
        ((1, 2, 3, 4), "step: expected (logits, state) or (logits, state, attention), got tuple"),
        (
            (tf.zeros([2, 1, 5]), ()),
            "step: expected logits [R, V], V known, got (2, 1, 5); reshape",
        ),
    ],
)
def test_another_form_is_refused(given, message):
    with pytest.raises(InputError) as error:
        greedy(lambda ids, state: given, tf.constant([4, 4]), (), 3)
    assert str(error.value).startswith(message)


def test_an_unknown_vocabulary_is_refused_while_tracing():
    @tf.function(input_signature=[tf.TensorSpec([None, None])], autograph=False)
    def traced(logits):
        return greedy(lambda ids, state: (logits, state), tf.constant([4]), (), 3).ids

    with pytest.raises(InputError, match=r"expected logits \[R, V\], V known, got \(None, None\)"):
        traced(tf.zeros([1, 5]))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_logits_become_float32(dtype):
    logits, _, attention = StepAdapter(
        lambda ids, s: (tf.cast([[1.5, 2]], dtype), s, tf.cast([[1]], dtype))
    )(tf.constant([4]), ())
    assert logits.dtype == attention.dtype == tf.float32
    assert logits.numpy().tolist() == [[1.5, 2.0]]


# --- rows ---


def test_rows_are_repeated_side_by_side():
    nest = {"mask": tf.constant([True, False]), "pair": (tf.constant([[1.0], [2.0]]), None)}
    found = repeat_rows(nest, 3)
    assert found["mask"].numpy().tolist() == [True] * 3 + [False] * 3
    assert found["pair"][0].numpy().tolist() == [[1.0]] * 3 + [[2.0]] * 3
    assert found["pair"][1] is None
    assert repeat_rows(tf.zeros([0, 4]), 2).shape == (0, 4)


# --- ensembles ---


def test_an_ensemble_of_one_is_the_model():
    automaton, begin = Automaton(1), (tf.range(4, 9), tf.constant([0, 5, 7, 11, 20]))
    alone = greedy(automaton, *begin, 9, banned=(0, 1, 2))
    found = greedy(ensemble([automaton]), begin[0], (begin[1],), 9, banned=(0, 1, 2))
    np.testing.assert_array_equal(found.ids, alone.ids)
    np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-5)
    np.testing.assert_allclose(found.attention, alone.attention, rtol=1e-6)


def test_an_ensemble_means_probabilities_and_the_attention_that_there_is():
    a, b, c = Automaton(1), Automaton(2), Automaton(3)
    a.logits[:, 5] = -np.inf
    ids, states = tf.constant([4, 6]), tuple(tf.constant(s) for s in ([0, 9], [4, 5], [1, 22]))
    step = ensemble([a, b.silent, c])
    logits, after, attention = step(ids, states)
    each = [one(ids, state) for one, state in zip((a, b, c), states, strict=True)]
    p = np.mean([tf.nn.softmax(logits) for logits, *_ in each], axis=0)
    np.testing.assert_allclose(np.exp(logits), p, rtol=1e-5)
    np.testing.assert_allclose(attention, (each[0][2] + each[2][2]) / 2, rtol=1e-6)
    for found, (_, wanted, _) in zip(after, each, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert len(ensemble([a.silent, b.silent])(ids, states[:2])) == 2


def test_ensembles_that_cannot_be_are_refused():
    with pytest.raises(InputError) as error:
        ensemble([])
    assert (
        str(error.value)
        == "steps: expected one step function or more, got none; give a list of them"
    )
    step = ensemble([Automaton(1, V=8), Automaton(1, V=9)])
    with pytest.raises(InputError) as error:
        step(tf.constant([4]), (tf.constant([0]), tf.constant([0])))
    assert (
        str(error.value)
        == "steps: expected one vocabulary, got sizes [8, 9]; train them on the same"
    )


# --- unknown words ---


def test_of_equal_attention_the_first_position_counts():
    assert most_attended(tf.constant([[[0.2, 0.4, 0.4], [0.0, 0.0, 0.0]]])).numpy().tolist() == [
        [1, 0]
    ]
