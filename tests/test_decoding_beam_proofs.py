"""Beam search against a search on paper and against all sequences; alone, in a batch, exported."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

from kerasrnn.cells import GRU
from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.decoding.sampling import PAD, ensemble, greedy, repeat_rows
from kerasrnn.export.graphs.onnx_file import convert
from tests.beam_reference import Automaton, every, search

BANNED = (0, 1, 2)

# name -> rules; each is tried with and without a prefix
RULES = {
    "plain": {},
    "length": {"length_penalty": 0.8},
    "coverage": {"coverage_penalty": 0.3, "length_penalty": 0.6},
    "minimum": {"min_length": 3, "length_penalty": 0.5},
    "no repeats": {"no_repeat_ngram": 2},
    "no id twice": {"no_repeat_ngram": 1, "min_length": 2},
    "all": {
        "length_penalty": 1.1,
        "coverage_penalty": 0.2,
        "min_length": 2,
        "no_repeat_ngram": 2,
        "banned": BANNED,
    },
}


def same(found, wanted, rows=slice(None)) -> None:
    """Ids but for pads behind, lengths, scores to 1e-5, attention."""
    steps = min(found.ids.shape[-1], wanted.ids.shape[-1])
    np.testing.assert_array_equal(found.lengths, wanted.lengths[rows])
    np.testing.assert_array_equal(found.ids[..., :steps], wanted.ids[rows][..., :steps])
    np.testing.assert_allclose(found.scores, wanted.scores[rows], rtol=1e-5, atol=1e-5)
    if found.attention is not None:
        S = found.attention.shape[-1]
        seen = wanted.attention[rows][..., :steps, :S]
        np.testing.assert_allclose(found.attention[..., :steps, :], seen, atol=1e-5)


def on_paper(decoded, row, wanted, N) -> None:
    """One row of what was found is what the reference found."""
    assert [list(ids) for ids, *_ in wanted] == [
        decoded.ids.numpy()[row, k, :n].tolist()
        for k, n in enumerate(decoded.lengths.numpy()[row, : len(wanted)])
    ]
    scores = [value for _, value, _ in wanted] + [-np.inf] * (N - len(wanted))
    np.testing.assert_allclose(decoded.scores[row], scores, rtol=1e-5, atol=1e-5)
    for k, (ids, _, attention) in enumerate(wanted if decoded.ids.shape[2] else ()):
        np.testing.assert_allclose(decoded.attention[row, k, : len(ids)], attention, atol=1e-6)
        assert (decoded.attention[row, k, len(ids) :].numpy() == 0).all()


@pytest.mark.parametrize("prefixed", [False, True], ids=["free", "prefixed"])
@pytest.mark.parametrize("name", RULES)
def test_it_finds_what_a_search_on_paper_finds(name, prefixed):
    """No early stop there, one sentence at a time: stopping and batching change nothing."""
    lengths = set()
    for seed in range(6):
        random, automaton = np.random.default_rng(seed), Automaton(seed)
        rules = BeamRules(beam=4, n_best=3, **{"banned": (PAD, 2), **RULES[name]})
        B, S = 3, 4
        first, state = random.integers(4, 9, size=B), random.integers(0, 23, size=B)
        length = random.integers(0, 10, size=B)
        prefix = random.integers(1, 9, size=[B, 3]) * (np.arange(3) < [[0], [1], [3]])
        mask = np.arange(S) < [[4], [3], [2]]
        decoded = beam_search(
            automaton,
            tf.constant(first, tf.int32),
            tf.constant(state, tf.int32),
            length,
            rules=rules,
            prefix=prefix if prefixed else None,
            mask=mask,
        )
        for row in range(B):
            sentence = first[row], state[row], length[row], rules
            wanted = search(automaton, *sentence, prefix[row] if prefixed else (), mask[row])
            on_paper(decoded, row, wanted, rules.n_best)
        lengths |= set(decoded.lengths.numpy().ravel().tolist())
    assert len(lengths) >= 5


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.7, 0.0), (2.0, 0.0), (1.0, 0.5)])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed, penalties):
    alpha, beta = penalties
    automaton = Automaton(seed, V=7, end=-1.0)
    options = {"length_penalty": alpha, "coverage_penalty": beta, "banned": BANNED}
    rules = BeamRules(beam=130, n_best=20, **options)
    decoded = beam_search(automaton, tf.constant([4]), tf.constant([seed]), 4, rules=rules)
    wanted = every(automaton, 4, seed, 4, rules)
    assert len(wanted) == 121  # of 3 letters: 1 + 3 + 9 + 27 that ended and 81 of full length
    found = zip(decoded.ids.numpy()[0], decoded.lengths.numpy()[0], strict=True)
    assert [tuple(ids[:n]) for ids, n in found] == [ids for _, ids in wanted[:20]]
    np.testing.assert_allclose(decoded.scores[0], [value for value, _ in wanted[:20]], rtol=1e-5)


def test_a_wider_beam_of_one_model_never_scores_less_here():
    """On the whole: a narrow beam may be lucky, the mean of many sentences is not."""
    automaton, ids = Automaton(5), tf.fill([64], 4)
    means = []
    for beam in (1, 2, 4, 16):
        rules = BeamRules(beam=beam, banned=BANNED)
        decoded = beam_search(automaton, ids, tf.range(64) % 23, 12, rules=rules)
        means.append(float(tf.reduce_mean(decoded.scores)))
    assert means == sorted(means) and means[0] < means[-1] - 0.01


# --- ensembles ---


def test_an_ensemble_under_beam_search_is_the_mean_of_its_models():
    """Two automata that go through the same states: the mean is an automaton, too."""
    a, b, both = Automaton(1), Automaton(2), Automaton(1)
    b.next = a.next
    p = (tf.nn.softmax(a.logits) + tf.nn.softmax(b.logits)).numpy() / 2
    both.logits, both.attention = np.log(p), (a.attention + b.attention) / 2
    ids, state = tf.range(4, 9), tf.constant([0, 3, 8, 12, 19])
    rules = BeamRules(beam=4, n_best=2, length_penalty=0.6, coverage_penalty=0.1, banned=BANNED)
    wanted = beam_search(both, ids, state, 9, rules=rules)
    same(beam_search(ensemble([a, b]), ids, (state, state), 9, rules=rules), wanted)
    alone = beam_search(a, ids, state, 9, rules=rules)
    same(beam_search(ensemble([a]), ids, (state,), 9, rules=rules), alone)
    assert not np.array_equal(alone.ids, wanted.ids)


# --- a real cell, alone and in a batch, in every runtime ---


class Translator(tf.Module):
    """A GRU with attention over a padded source, random weights, searched by beam."""

    def __init__(self, **rules):
        super().__init__()
        self.rules = BeamRules(**{"beam": 4, "n_best": 3, "banned": BANNED, **rules})
        self.cell = GRU(16)
        self.cell.build((None, 20))
        random = np.random.default_rng(1)
        shapes = {"embedding": (30, 8), "query": (16, 12), "readout": (28, 30)}
        for name, shape in shapes.items():
            setattr(self, name, tf.Variable(1.2 * random.normal(size=shape).astype("float32")))

    def step_over(self, memory, mask):
        def step(ids, state):
            (h,) = state
            score = tf.linalg.matvec(memory, h @ self.query)
            attention = tf.nn.softmax(tf.where(mask, score, -1e9))
            context = tf.linalg.matvec(memory, attention, transpose_a=True)
            x = tf.concat([tf.gather(self.embedding, ids), context], axis=1)
            output, state = self.cell(x, [h])
            return tf.concat([output, context], axis=1) @ self.readout, (state[0],), attention

        return step

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 12], name="memory"),
            tf.TensorSpec([None, None], tf.bool, name="mask"),
            tf.TensorSpec([None], tf.int32, name="length"),
            tf.TensorSpec([None, None], tf.int32, name="prefix"),
        ],
        autograph=False,
    )
    def search(self, memory, mask, length, prefix):
        ids, state = tf.fill([tf.shape(memory)[0]], 2), (tf.reduce_sum(memory, 1)[:, :1] * 0.1,)
        state = (tf.tile(state[0], [1, 16]),)
        step = self.step_over(*repeat_rows((memory, mask), self.rules.beam))
        more = {"prefix": prefix, "mask": mask}
        return beam_search(step, ids, state, length, rules=self.rules, **more)


def sources(B, S, seed=0, prefix=0) -> dict[str, np.ndarray]:
    """Memories of B sentences, each of its own length, padded with what must not matter."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, S + 1, size=B)
    return {
        "memory": random.normal(size=[B, S, 12]).astype("float32"),
        "mask": np.arange(S) < lengths[:, None],
        "length": (2 * lengths).astype("int32"),
        "prefix": random.integers(4, 30, size=[B, prefix]).astype("int32"),
    }


MODELS = {
    "plain": {},
    "one": {"beam": 1, "n_best": 1},
    "all": {**RULES["all"], "beam": 5, "n_best": 5},
}


@pytest.fixture(scope="module", params=MODELS)
def translator(request):
    return Translator(**MODELS[request.param])


def test_a_sentence_alone_is_translated_as_in_a_batch(translator):
    inputs = sources(7, 6, prefix=1)
    inputs["memory"] *= np.where(inputs["mask"], 1, 0)[..., None]
    batch = translator.search(**inputs)
    assert len(set(batch.lengths.numpy()[:, 0])) > 2
    for row in range(7):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        S = one["mask"].sum()
        one.update(memory=one["memory"][:, :S], mask=one["mask"][:, :S])
        same(translator.search(**one), batch, slice(row, row + 1))
    seen = batch.attention.numpy().sum(-1)
    np.testing.assert_allclose(seen[seen > 0], 1, rtol=1e-5)
    assert (batch.attention.numpy() * ~inputs["mask"][:, None, None] == 0).all()


def test_eager_saved_and_onnx_give_the_same(translator, tmp_path):
    tf.saved_model.save(translator, str(tmp_path / "model"))
    saved = tf.saved_model.load(str(tmp_path / "model"))
    names = ["ids", "lengths", "scores", "attention"]
    signature = list(translator.search.input_signature)
    model = convert(translator.search.python_function, signature, names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for B, S, prefix in ((1, 1, 0), (1, 9, 2), (6, 7, 0), (3, 4, 1)):
        inputs = sources(B, S, seed=B + S, prefix=prefix)
        wanted = translator.search(**inputs)
        eager = translator.search.python_function(**{k: tf.constant(v) for k, v in inputs.items()})
        found = type(wanted)(*session.run(names, inputs))
        assert found.ids.shape == wanted.ids.shape == eager.ids.shape
        for other in (found, eager, type(wanted)(*saved.search(**inputs))):
            same(other, wanted)
    # No steps at all.
    inputs["length"] *= 0
    assert session.run(names, inputs)[0].shape == translator.search(**inputs).ids.shape
    assert (
        session.run(names, inputs)[2].tolist()
        == translator.search(**inputs).scores.numpy().tolist()
    )


def test_a_beam_of_one_is_greedy_over_the_real_cell():
    translator, inputs = Translator(beam=1, n_best=1), sources(5, 6)
    wanted = translator.search(**inputs)
    memory, mask = tf.constant(inputs["memory"]), tf.constant(inputs["mask"])
    state = tf.tile(tf.reduce_sum(memory, 1)[:, :1] * 0.1, [1, 16])
    step = translator.step_over(memory, mask)
    found = greedy(step, tf.fill([5], 2), (state,), inputs["length"], banned=BANNED)
    same(type(found)(*(tf.expand_dims(part, 1) for part in found)), wanted)


def test_equal_scores_are_broken_alike_in_onnx():
    """Three likely ids and three half as likely: the sums tie exactly."""
    level = np.log([[1e-9, 1e-9, 1e-9, 1e-9, 2, 1, 2, 1, 2, 1]]).astype("float32")

    def function(ids):
        step = lambda ids, state: (tf.tile(level, [tf.size(ids), 1]), state)  # noqa: E731
        return (beam_search(step, ids, (), 2, rules=BeamRules(beam=13, n_best=13)).ids,)

    model = convert(function, [tf.TensorSpec([None], tf.int32, "ids")], ["out"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.array([2, 2], "int32")
    likely, unlikely = (4, 6, 8), (5, 7, 9)
    wanted = [[a, b] for a in likely for b in likely] + [[4, b] for b in unlikely] + [[6, 5]]
    every_way = function(ids), tf.function(function)(ids), session.run(None, {"ids": ids})
    for (found,) in every_way:
        assert np.asarray(found).tolist() == [wanted, wanted]
