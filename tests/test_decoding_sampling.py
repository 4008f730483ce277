"""Drawing ids: fixed random numbers, the right distribution, and the same ids in ONNX Runtime."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from kerasrnn.decoding.sampling import END, PAD, Sampling, pick, sample, uniform
from tests.spelling import LETTERS, V, noisy, spell, words

# --- random numbers ---


def grid(seed: int, rows: int, steps: int) -> np.ndarray:
    """Numbers [steps, rows]."""
    every = tf.range(rows, dtype=tf.int64)
    draw = tf.function(lambda step: uniform(tf.constant(seed, tf.int64), every, step))
    return np.stack([draw(tf.constant(step, tf.int64)).numpy() for step in range(steps)])


def test_three_numbers_are_pinned():
    rows = tf.constant([0, 1, 7], tf.int64)
    found = uniform(12345, rows, 3).numpy() * 2**24
    assert found.tolist() == [14944759, 5148001, 11237161]


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, -5])
def test_numbers_are_spread_evenly_over_rows_and_steps(seed):
    numbers = grid(seed, 500, 200)
    assert numbers.dtype == np.float32 and 0 <= numbers.min() and numbers.max() < 1
    for part in (numbers.ravel(), *numbers[:3], *numbers.T[:3]):
        counts = np.histogram(part, bins=20, range=(0, 1))[0]
        assert stats.chisquare(counts).pvalue > 1e-4


def test_neighbouring_rows_steps_and_seeds_know_nothing_of_each_other():
    numbers, neighbour = grid(41, 400, 100), grid(42, 400, 100)
    pairs = {
        "rows": (numbers[:, 1:], numbers[:, :-1]),
        "steps": (numbers[1:], numbers[:-1]),
        "seeds": (numbers, neighbour),
        "seed and row": (numbers[:, 1:], neighbour[:, :-1]),
        "row and step": (numbers[1:, :-1], numbers[:-1, 1:]),
    }
    for name, (a, b) in pairs.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size), name
        assert np.mean(a == b) < 1e-4, name


# --- one choice ---


def reference(logits, number, temperature, top_k, top_p) -> int:
    """One row by the book: sort, cut, renormalize, invert; float64."""
    order = np.argsort(-np.asarray(logits, np.float64), kind="stable")
    if temperature <= 0:
        return int(order[0])
    scaled = np.asarray(logits, np.float64)[order] / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    kept = np.concatenate([[0.0], np.cumsum(p)[:-1]]) < top_p
    if top_k > 0:
        kept &= np.arange(len(p)) < top_k
    kept[0] = True
    cumulative = np.cumsum(p[kept]) / p[kept].sum()
    return int(order[kept][np.searchsorted(cumulative, number, side="right")])


def choose(logits, number, temperature=1.0, top_k=0, top_p=1.0) -> np.ndarray:
    logits = tf.constant(logits, tf.float32)
    return pick(logits, tf.constant(number, tf.float32), temperature, top_k, top_p).numpy()


@pytest.mark.parametrize("temperature", [0.0, 0.05, 0.7, 1.0, 3.0])
@pytest.mark.parametrize(
    "top_k, top_p", [(0, 1.0), (3, 1.0), (0, 0.6), (4, 0.35), (1, 1.0), (99, 1)]
)
def test_choices_are_those_of_the_book(temperature, top_k, top_p):
    random = np.random.default_rng(3)
    logits = (3 * random.normal(size=(300, 11))).astype("float32")
    number = ((np.arange(300) + 0.5) / 300).astype("float32")
    found = choose(logits, number, temperature, top_k, top_p)
    wanted = [
        reference(*row, temperature, top_k, top_p) for row in zip(logits, number, strict=True)
    ]
    assert found.dtype == np.int32 and found.tolist() == wanted
    assert temperature == 0 or top_k == 1 or len(set(found)) > 5


def test_ties_go_to_the_lower_id():
    tied = np.tile([[1.0, 5.0, 5.0, 2.0]], (3, 1))
    assert choose(tied, [0.0, 0.5, 0.99], temperature=0.0).tolist() == [1, 1, 1]
    assert choose(tied, [0.0, 0.5, 0.99], top_k=1).tolist() == [1, 1, 1]
    assert choose(tied, [0.0, 0.4999, 0.9], top_k=2).tolist() == [1, 1, 2]
    assert choose(np.zeros([4, 4]), [0.1, 0.3, 0.6, 0.9]).tolist() == [0, 1, 2, 3]
    # A share runs from its lower bound, which belongs to it, to its upper, which does not.
    assert choose(np.zeros([3, 4]), [0.0, 0.25, 0.75]).tolist() == [0, 1, 3]


@pytest.mark.parametrize("low", [-1e9, -1e30, -np.inf])
def test_what_has_no_probability_is_never_drawn(low):
    logits = np.full((1001, 6), low, np.float32)
    logits[:, [2, 4]] = [1e4, 1e4 + 1]
    number = np.append(np.linspace(0, 1, 1000, endpoint=False), 1 - 2**-24)
    found = choose(logits, number)
    assert set(found) == {2, 4}
    assert np.mean(found == 4) == pytest.approx(1 / (1 + np.exp(-1)), abs=2e-3)


def test_a_temperature_near_zero_is_greedy():
    logits = [[1.0, 3.0, 2.999], [-1e9, 0.5, 700.0]]
    for temperature in (1e-6, 1e-30, 0.0, -1.0):
        assert choose(logits, [0.999, 0.999], temperature=temperature).tolist() == [1, 2]


@pytest.mark.parametrize("temperature, top_k, top_p", [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 3, 0.9)])
def test_many_draws_follow_the_softmax(temperature, top_k, top_p):
    logits = np.array([0.3, 2.0, -1.0, 1.2, 0.9])
    n = 20_000
    number = uniform(9, tf.range(n, dtype=tf.int64), 0)
    found = choose(np.tile(logits, (n, 1)), number, temperature, top_k, top_p)
    p = np.exp(logits / temperature)
    if top_k:
        p[np.argsort(-p)[top_k:]] = 0
    counts = np.bincount(found, minlength=5)
    assert counts[p == 0].sum() == 0
    wanted = n * p[p > 0] / p.sum()
    assert stats.chisquare(counts[p > 0], wanted).pvalue > 1e-3


# --- whole rows ---


def draw(seed=5, rows=6, length=30, banned=(), **options):
    ids = tf.range(4, 4 + rows)
    return sample(
        noisy,
        ids,
        tf.zeros([rows], tf.int32),
        length,
        Sampling(seed=seed, **options),
        banned=banned,
    )


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0}, {"top_k": 1}])
def test_a_sharp_step_function_is_spelled_out(options):
    spoken = ["tide", "", "sail on", "ocean"]
    decoded = sample(*words(*spoken), 20, Sampling(seed=1, **options))
    assert spell(decoded.ids) == spoken
    assert decoded.lengths.numpy().tolist() == [4, 0, 7, 5]
    assert decoded.ids.shape == (4, 8)  # it stops with the longest row and its end
    assert decoded.ids.dtype == decoded.lengths.dtype == tf.int32
    assert decoded.scores.dtype == tf.float32 and decoded.attention is None


def test_a_row_that_ended_stays_pad():
    # Row 0 would go on to speak after its end.
    decoded = sample(*words("so$late", "patience"), 7, Sampling(temperature=0.0))
    assert spell(decoded.ids) == ["so", "patienc"]
    assert decoded.ids.numpy()[0].tolist() == [
        LETTERS.index("s"),
        LETTERS.index("o"),
        0,
        0,
        0,
        0,
        0,
    ]
    assert decoded.lengths.numpy().tolist() == [2, 7]


@pytest.mark.parametrize("length, shape", [(-3, 0), (0, 0), (1, 1), (3, 3)])
def test_no_more_is_drawn_than_asked(length, shape):
    decoded = sample(*words("tide", "sail", sharp=3.0), length, Sampling(temperature=0.0))
    assert spell(decoded.ids) == ["tide"[:shape], "sail"[:shape]]
    assert decoded.ids.shape == (2, shape)
    assert decoded.lengths.numpy().tolist() == [shape, shape]
    assert (decoded.scores.numpy() == 0).all() == (shape == 0)


def test_no_rows_give_no_rows():
    decoded = sample(noisy, tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), 5)
    assert decoded.ids.shape == (0, 0) and decoded.scores.shape == (0,)


def test_each_id_drawn_is_fed_back():
    step, ids, state = words("tide", "a$")
    seen = []

    def spy(ids, state):
        logits, state = step(ids, state)
        seen.append(ids.numpy().tolist())
        return logits, state

    sample(spy, ids, state, 9, Sampling(temperature=0.0))
    t, i, d, e, a = (LETTERS.index(c) for c in "tidea")
    assert seen == [[2, 2], [t, a], [i, END], [d, PAD], [e, PAD]]


@pytest.mark.parametrize("low", [-50.0, -np.inf])
def test_scores_are_sums_of_log_probabilities(low):
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 3, V)).astype("float32")
    logits[:, :, 4] = low
    logits[2, 1, END] = 100.0

    def step(ids, t):
        return tf.gather(tf.constant(logits), t[0]), t + 1

    options = {"temperature": 0.6, "top_k": 7, "top_p": 0.9}  # they steer the draw, not the score
    decoded = sample(step, tf.fill([3], 2), tf.zeros([3], tf.int32), 5, Sampling(seed=2, **options))
    wide = logits.astype("float64")
    nats = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    wanted = []
    for row, n in enumerate(decoded.lengths.numpy()):
        path = [*decoded.ids.numpy()[row, :n], *([END] if n < 5 else [])]
        wanted.append(sum(nats[t, row, i] for t, i in enumerate(path)))
    np.testing.assert_allclose(decoded.scores, wanted, rtol=1e-5)
    assert decoded.lengths.numpy()[1] == 2


def test_banned_ids_are_never_drawn_and_take_no_probability():
    frequent = {int(i) for i in np.unique(draw(rows=40).ids)} - {PAD}
    banned = (PAD, 1, *sorted(frequent - {END})[:6])
    decoded = draw(rows=40, banned=banned)
    alive = np.arange(decoded.ids.shape[1]) < decoded.lengths.numpy()[:, None]
    assert not np.isin(decoded.ids.numpy()[alive], banned).any()
    assert len(frequent) > 10

    def two(ids, state):
        return tf.tile(tf.math.log([[0.7, 0.1, 0.1, 0.0, 0.1]]), [2, 1]), state

    scored = sample(two, tf.constant([4, 4]), (), 1, Sampling(temperature=0.0), banned=(0, 3))
    assert scored.ids.numpy().tolist() == [[1], [1]]
    np.testing.assert_allclose(scored.scores, np.log([1 / 3] * 2), rtol=1e-5)


def test_a_seed_fixes_the_ids():
    first = draw(seed=5).ids.numpy()
    np.testing.assert_array_equal(first, draw(seed=5).ids)
    others = [spell(draw(seed=seed).ids) for seed in (0, 1, 5, 6, 2**31 - 1)]
    assert all(a != b for a, b in itertools.combinations(others, 2))
    assert spell(draw(seed=5, temperature=0.0).ids) == spell(draw(seed=6, temperature=0.0).ids)


def test_a_row_depends_on_its_number_and_not_on_the_others():
    """The rows before it give a row its number; what they hold, and what follows, is no matter."""
    small, large = draw(rows=3), draw(rows=9)
    for part in zip(spell(small.ids), spell(large.ids), strict=False):
        assert len(set(part)) == 1
    ids = tf.fill([5], 9)
    alike = sample(noisy, ids, tf.zeros([5], tf.int32), 12, Sampling(seed=5))
    assert len(set(spell(alike.ids))) == 5
