"""Beam search over words: what each rule does, what a result looks like, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules, beam_search, without_repeats
from kerasrnn.decoding.sampling import END, PAD, greedy
from tests.spelling import LETTERS, Lexicon, V, noisy, spell

# Letter by letter "s" is likelier than "t" (0.6), word by word "tide" is the likeliest.
SAID = {"tide": 0.4, "so": 0.25, "sail": 0.2, "spy": 0.15}


def best(said=SAID, length=9, rows=1, **options):
    tensors = {name: options.pop(name) for name in ("prefix", "mask") if name in options}
    lexicon = Lexicon(said)
    begin = lexicon.begin(rows)
    return beam_search(lexicon, *begin, length, rules=BeamRules(**options), **tensors)


def ending(ids, state):
    """Noise that ends now and then."""
    logits, state = noisy(ids, state)
    return logits + 3.0 * tf.one_hot(END, V), state


def search_noise(rows=4, length=14, **options):
    begin = tf.range(4, 4 + rows), tf.zeros([rows], tf.int32)
    return beam_search(noisy, *begin, length, rules=BeamRules(**options))


def ids_of(*texts) -> tf.Tensor:
    longest = max(map(len, texts))
    return tf.constant([[LETTERS.index(c) for c in t.ljust(longest, "\0")] for t in texts])


# --- the search ---


def test_the_best_word_is_found_where_greedy_is_misled():
    lexicon = Lexicon(SAID)
    assert spell(greedy(lexicon, *lexicon.begin(), 9).ids) == ["so"]
    assert spell(best(beam=2).ids[0]) == ["tide"]


def test_hypotheses_come_best_first_with_their_probability():
    decoded = best(beam=6, n_best=4)
    assert spell(decoded.ids[0]) == ["tide", "so", "sail", "spy"]
    np.testing.assert_allclose(np.exp(decoded.scores), [[0.4, 0.25, 0.2, 0.15]], rtol=1e-5)
    assert decoded.lengths.numpy().tolist() == [[4, 2, 4, 3]]
    assert decoded.ids.dtype == decoded.lengths.dtype == tf.int32
    assert decoded.scores.dtype == tf.float32 and decoded.ids.shape == (1, 4, 5)


@pytest.mark.parametrize("n_best", [1, 3, 6])
def test_hypotheses_differ_and_fall(n_best):
    decoded = search_noise(beam=6, n_best=n_best, length_penalty=0.7)
    assert decoded.ids.shape[:2] == decoded.scores.shape == (4, n_best)
    assert (np.diff(decoded.scores) <= 0).all()
    for row in decoded.ids:
        assert len(set(spell(row))) == n_best


def test_a_beam_of_one_is_greedy():
    begin = tf.range(4, 12), tf.zeros([8], tf.int32)
    wanted = greedy(ending, *begin, 20, banned=(PAD, 5))
    found = beam_search(ending, *begin, 20, rules=BeamRules(beam=1, banned=(PAD, 5)))
    np.testing.assert_array_equal(found.ids[:, 0], wanted.ids)
    np.testing.assert_array_equal(found.lengths[:, 0], wanted.lengths)
    np.testing.assert_allclose(found.scores[:, 0], wanted.scores, rtol=1e-5)
    assert len(set(wanted.lengths.numpy())) > 2


def test_a_finished_hypothesis_stays_as_it_is():
    """ "on" ends at once and waits for the long words with its probability and its pads."""
    decoded = best({"on": 0.2, "ocean": 0.3, "sailors": 0.5}, beam=3, n_best=3)
    assert spell(decoded.ids[0]) == ["sailors", "ocean", "on"]
    np.testing.assert_allclose(np.exp(decoded.scores), [[0.5, 0.3, 0.2]], rtol=1e-5)
    assert decoded.ids.numpy()[0, 2, 2:].tolist() == [PAD] * 6


def test_it_stops_when_no_other_can_win():
    said = {"a": 0.5, "sailors": 0.3, "trip": 0.2}
    # (n_best, options) -> steps run: "a", then also "sailors" are sure.
    for n_best, steps in ((1, 2), (2, 8), (3, 8)):
        decoded = best(said, beam=3, n_best=n_best)
        assert decoded.ids.shape[2] == steps
        assert spell(decoded.ids[0]) == ["a", "sailors", "trip"][:n_best]
    # A penalty may still lift the longer ones.
    assert best(said, beam=3, length_penalty=1.0).ids.shape[2] == 8


def test_equal_scores_go_to_the_lower_id_and_the_earlier_hypothesis():
    decoded = best({"on": 0.25, "at": 0.25, "it": 0.25, "to": 0.25}, beam=4, n_best=4)
    assert spell(decoded.ids[0]) == ["at", "it", "on", "to"]
    level = lambda ids, state: (tf.zeros([tf.shape(ids)[0], 9]), state)  # noqa: E731
    decoded = beam_search(level, tf.constant([2]), (), 2, rules=BeamRules(beam=3, n_best=3))
    assert decoded.ids.numpy().tolist() == [[[0, 0], [0, 1], [0, 2]]]


# --- rules ---


def test_a_length_penalty_prefers_longer_words():
    said = {"at": 0.5, "atlantic": 0.1, "stone": 0.4}
    scores = {w: np.log(p) / ((5 + len(w) + 1) / 6) ** 1.5 for w, p in said.items()}
    decoded = best(said, length=12, beam=4, n_best=3, length_penalty=1.5)
    assert spell(decoded.ids[0]) == ["stone", "at", "atlantic"]
    np.testing.assert_allclose(decoded.scores[0], sorted(scores.values())[::-1], rtol=1e-5)
    assert spell(best(said, beam=4).ids[0]) == ["at"]


def test_a_minimum_length_keeps_short_words_out():
    for least, words in ((0, ["tide", "so"]), (3, ["tide", "sail"]), (4, ["tide", "sail"])):
        assert spell(best(beam=4, n_best=2, min_length=least).ids[0]) == words
    decoded = best(beam=4, n_best=3, min_length=4)
    assert decoded.lengths.numpy().tolist() == [[4, 4, 0]]  # there is no third
    np.testing.assert_allclose(np.exp(decoded.scores), [[0.4, 0.2, 0]], rtol=1e-5)


def test_each_sentence_has_its_own_length():
    length = tf.constant([9, 3, 2, 0, -4])
    decoded = best(length=length, rows=5, beam=3, n_best=2)
    found = [spell(row) for row in decoded.ids]
    assert found == [["tide", "so"], ["tid", "so"], ["ti", "so"], ["", ""], ["", ""]]
    assert decoded.lengths.numpy().tolist() == [[4, 2], [3, 2], [2, 2], [0, 0], [0, 0]]
    scores = np.exp(decoded.scores)
    np.testing.assert_allclose(scores[:3], [[0.4, 0.25], [0.4, 0.25], [0.4, 0.25]], rtol=1e-5)
    assert scores[3:].tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ids_are_repeated(n):
    rules = {"beam": 3, "n_best": 3, "length_penalty": 2.0, "banned": (PAD, *range(9, V))}
    free = search_noise(length=30, **rules)
    decoded = search_noise(length=30, no_repeat_ngram=n, **rules)

    def repeated(decoded):
        found = 0
        for ids, k in zip(
            np.reshape(decoded.ids, [12, -1]), np.ravel(decoded.lengths), strict=True
        ):
            grams = [tuple(ids[i : i + n]) for i in range(k - n + 1)]
            found += len(grams) - len(set(grams))
        return found

    assert repeated(decoded) == 0 < repeated(free)
    assert decoded.lengths.numpy().max() > 4


def test_repeats_are_found_where_they_stand():
    ids = tf.constant([[4, 5, 4, 5], [5, 5, 5, 5], [4, 6, 7, 4]])
    for n, banned in ((1, [{4, 5}, {5}, {4, 6, 7}]), (2, [{4}, {5}, {6}]), (3, [{4}, {5}, set()])):
        found = np.isneginf(without_repeats(tf.zeros([3, 8]), ids, n))
        assert [set(np.flatnonzero(row)) for row in found] == banned
    for t in range(3):
        assert not np.isneginf(without_repeats(tf.zeros([3, 8]), ids[:, :t], 3)).any()


def test_a_prefix_is_kept_and_the_search_goes_on_from_it():
    prefix = ids_of("s", "", "sp", "tid")
    decoded = best(rows=4, beam=3, n_best=2, prefix=prefix)
    assert [spell(row) for row in decoded.ids] == [
        ["so", "sail"],
        ["tide", "so"],
        ["spy", ""],
        ["tide", ""],
    ]
    np.testing.assert_allclose(
        np.exp(decoded.scores), [[0.25, 0.2], [0.4, 0.25], [0.15, 0], [0.4, 0]], rtol=1e-5
    )


def test_a_prefix_overrides_the_other_rules():
    rules = {"beam": 2, "no_repeat_ngram": 1, "banned": (LETTERS.index("t"),), "min_length": 2}
    said = {"tot": 0.5, "to": 0.2, "no": 0.3}
    decoded = best(said, prefix=ids_of("tot"), **rules)
    assert spell(decoded.ids[0]) == ["tot"]
    # "t" is banned and adds nothing; "o" after it is sure.
    np.testing.assert_allclose(decoded.scores, [[0]], atol=1e-6)
    assert spell(best(said, prefix=ids_of("nod"), length=2, beam=2).ids[0]) == ["no"]
    assert spell(best(said, prefix=tf.zeros([1, 0], tf.int32), beam=2).ids[0]) == ["tot"]
    ended = best(said, prefix=tf.constant([[LETTERS.index("t"), END]]), min_length=2, beam=2)
    assert spell(ended.ids[0]) == ["t"] and ended.lengths.numpy().tolist() == [[1]]


def test_banned_letters_have_no_share():
    decoded = best(beam=4, n_best=3, banned=(PAD, LETTERS.index("i")))
    assert spell(decoded.ids[0])[:2] == ["so", "spy"]
    # After "s" come "o" 0.25, "p" 0.15 and "a" 0.2; after "sa" and "t" nothing is left.
    np.testing.assert_allclose(np.exp(decoded.scores[0, :2]), [0.25, 0.15], rtol=1e-5)
    only = best(beam=4, banned=(LETTERS.index("t"),))
    np.testing.assert_allclose(np.exp(only.scores), [[0.25 / 0.6]], rtol=1e-5)


def test_a_coverage_penalty_asks_for_all_of_the_source():
    """Attention 0.8 on one place of nine each step: every id covers 0.7 more."""
    said = {"at": 0.55, "tide": 0.45}
    assert spell(best(said, beam=3).ids[0]) == ["at"]
    decoded = best(said, beam=3, n_best=2, coverage_penalty=0.2)
    assert spell(decoded.ids[0]) == ["tide", "at"]
    mask = tf.range(9)[tf.newaxis] < 6

    def wanted(word, places):
        n = len(word) + 1
        attention = np.full([n, 9], 0.1) + 0.7 * np.eye(9)[:n]
        nats = np.log(np.minimum(attention.sum(0), 1))[:places]
        return np.log(said[word]) + 0.2 * nats.sum()

    np.testing.assert_allclose(decoded.scores, [[wanted("tide", 9), wanted("at", 9)]], rtol=1e-5)
    decoded = best(said, beam=3, n_best=2, coverage_penalty=0.2, mask=mask)
    np.testing.assert_allclose(decoded.scores, [[wanted("tide", 6), wanted("at", 6)]], rtol=1e-5)


# --- attention ---


def test_attention_belongs_to_the_surviving_hypothesis():
    """Attention on the id that was fed: shifted by one, it has to spell the hypothesis."""

    def step(ids, state):
        logits, state = ending(ids, state)
        return logits, state, tf.one_hot(ids, V)

    begin = tf.range(4, 10), tf.zeros([6], tf.int32)
    rules = BeamRules(beam=5, n_best=5, length_penalty=1.0, banned=(PAD,))
    decoded = beam_search(step, *begin, 12, rules=rules)
    assert decoded.attention.shape == (*decoded.ids.shape, V)
    for first, row, lengths, attention in zip(
        begin[0], *decoded[:2], decoded.attention, strict=True
    ):
        for ids, n, seen in zip(row, lengths, attention, strict=True):
            fed = [int(first), *ids.numpy()[: n - 1]][:n]
            assert np.argmax(seen[:n], axis=-1).tolist() == fed
            assert (seen[n:].numpy() == 0).all() and seen.numpy().sum() == n
    assert len({int(n) for n in np.ravel(decoded.lengths)}) > 2


# --- edges ---


def test_where_there_are_fewer_sequences_the_rest_is_empty():
    decoded = best({"on": 0.9, "at": 0.1}, beam=30, n_best=4)
    assert spell(decoded.ids[0]) == ["on", "at", "", ""]
    assert decoded.lengths.numpy().tolist() == [[2, 2, 0, 0]]
    assert np.exp(decoded.scores)[0, 2:].tolist() == [0, 0]
    assert (decoded.attention.numpy()[0, 2:] == 0).all()


def test_a_length_of_zero_gives_nothing():
    decoded = search_noise(beam=3, n_best=2, length=0)
    assert decoded.ids.shape == (4, 2, 0) and decoded.attention is None
    assert decoded.scores.numpy().tolist() == [[0, -np.inf]] * 4
    assert decoded.lengths.numpy().tolist() == [[0, 0]] * 4


def test_no_rows_give_no_rows():
    decoded = search_noise(rows=0, beam=3, n_best=2)
    assert decoded.ids.shape == (0, 2, 0) and decoded.scores.shape == (0, 2)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_logits_of_half_precision(dtype):
    lexicon = Lexicon(SAID)

    def step(ids, state):
        logits, state, attention = lexicon(ids, state)
        return tf.cast(logits, dtype), state, tf.cast(attention, dtype)

    decoded = beam_search(step, *lexicon.begin(), 9, rules=BeamRules(beam=4, n_best=3))
    assert spell(decoded.ids[0]) == ["tide", "so", "sail"]
    assert decoded.scores.dtype == decoded.attention.dtype == tf.float32
    np.testing.assert_allclose(np.exp(decoded.scores), [[0.4, 0.25, 0.2]], rtol=0.02)


# --- refusals ---


@pytest.mark.parametrize(
    "options, message",
    [
        ({"beam": 0}, "beam: expected a whole number of 1 or more, got 0; change it"),
        ({"beam": 2.5}, "beam: expected a whole number of 1 or more, got 2.5; change it"),
        ({"n_best": 0}, "n_best: expected a whole number of 1 or more, got 0; change it"),
        (
            {"n_best": 6},
            "n_best: expected at most the beam, got 6 with a beam of 5; widen the beam",
        ),
        ({"min_length": -1}, "min_length: expected a whole number of 0 or more, got -1; change it"),
        (
            {"no_repeat_ngram": -2},
            "no_repeat_ngram: expected a whole number of 0 or more, got -2; change it",
        ),
        (
            {"length_penalty": -0.5},
            "length_penalty: expected a number of 0 or more, got -0.5; use 0 for none",
        ),
        (
            {"coverage_penalty": float("nan")},
            "coverage_penalty: expected a number of 0 or more, got nan; use 0 for none",
        ),
    ],
)
def test_rules_out_of_range_are_refused(options, message):
    with pytest.raises(InputError) as error:
        BeamRules(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"ids": [[4], [5]]}, "ids: expected a tensor [B], got (2, 1); reshape it"),
        ({"prefix": [4, 5]}, "prefix: expected a tensor [B, P], got (2,); reshape it"),
        ({"mask": [True]}, "mask: expected a tensor [B, S], got (1,); reshape it"),
        ({"length": [[3]]}, "length: expected a scalar or a tensor [B], got (1, 1); reshape it"),
        (
            {"state": [0] * 10},
            "state: expected tensors of 2 rows, one of each sentence, got 10; "
            "leave it to the search to repeat",
        ),
    ],
)
def test_tensors_of_another_shape_are_refused(tensors, message):
    given = {"ids": [4, 5], "state": tf.zeros([2], tf.int32), "length": 3, **tensors}
    if "state" in tensors:
        given["state"] = tf.constant(tensors["state"])
    with pytest.raises(InputError) as error:
        beam_search(noisy, **given)
    assert str(error.value) == message


def test_a_coverage_penalty_without_attention_is_refused():
    with pytest.raises(InputError) as error:
        search_noise(coverage_penalty=0.3)
    assert str(error.value) == (
        "coverage_penalty: expected 0 with a step function that reports no attention, got 0.3; "
        "set it to 0"
    )
