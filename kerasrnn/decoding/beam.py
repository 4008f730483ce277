"""Beam search over a step function, as graph code that runs alike in TensorFlow and in ONNX.

B sentences, K hypotheses of each, R = B·K rows (row b·K + k), N hypotheses returned, C
candidates of each hypothesis, T steps run, S source time, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.sampling import END, PAD, Decoded, Step, StepAdapter, repeat_rows, without

NONE = float("-inf")  # the score of a hypothesis that does not exist
LEAST = 1e-10  # the least coverage of a source position, so that its logarithm is finite


@dataclass(frozen=True)
class BeamRules:
    """The width of a beam search, its score, and the sequences that it allows.

    The score of a hypothesis Y is log p(Y) / lp(Y) + cp(Y) (Wu et al. 2016, equations 14 and 15).

    Args:
        beam: K, hypotheses kept for each sentence; 1 is greedy.
        n_best: N, hypotheses returned for each sentence, at most K.
        length_penalty: α of lp(Y) = ((5 + |Y|) / 6)^α; |Y| counts the end id, as log p(Y) does.
            0 for none.
        coverage_penalty: β of cp(Y) = β Σ_i log(min(Σ_j p_ij, 1)), where p_ij is the attention of
            target id j to source position i. 0 for none.
        min_length: the number of ids before an end id is allowed.
        no_repeat_ngram: n; no hypothesis contains the same sequence of n ids twice. 0 for any.
        banned: ids that are never taken; their probability is 0.

    Raises:
        InputError: when a number is out of its range.

    >>> BeamRules(beam=4, length_penalty=0.6).n_best
    1
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    min_length: int = 0
    no_repeat_ngram: int = 0
    banned: tuple[int, ...] = ()

    def __post_init__(self):
        minimum = {"beam": 1, "n_best": 1, "min_length": 0, "no_repeat_ngram": 0}
        for name, bound in minimum.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < bound:
                raise InputError(name, f"a whole number of {bound} or more", value, "change it")
        for name in ("length_penalty", "coverage_penalty"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= value < float("inf"):
                raise InputError(name, "a number of 0 or more", value, "use 0 for none")
        if self.n_best > self.beam:
            received = f"{self.n_best} with a beam of {self.beam}"
            raise InputError("n_best", "at most the beam", received, "widen the beam")


class _Beam(NamedTuple):
    """The K hypotheses of each sentence after a step, best first.

    Attributes:
        t: int32 scalar, the steps run so far.
        ids: int32 [R], the last id of each hypothesis.
        state: the state of the step function, R rows.
        total: float32 [B, K], log p of an unfinished hypothesis; not used for a finished one.
        score: float32 [B, K], the score by which hypotheses are ranked; -inf at a vacant place.
        finished: bool [B, K], whether a hypothesis is finished; True at a vacant place.
        history: int32 [R, t, 2], for each step the id taken and the row that it was taken from.
        coverage: float32 [R, S], attention summed over steps; [R, 1] before the first step.
        attention: float32 [t·R·S], attention of each step, in the order of rows before its choice.
    """

    t: tf.Tensor
    ids: tf.Tensor
    state: Any
    total: tf.Tensor
    score: tf.Tensor
    finished: tf.Tensor
    history: tf.Tensor
    coverage: tf.Tensor
    attention: tf.Tensor


class _Search:
    """The parts of a search that stay the same from step to step, and its steps."""

    def __init__(self, step, batch, length, rules, prefix, mask):
        self.step, self.rules, self.batch = StepAdapter(step), rules, batch
        length = tf.broadcast_to(tf.cast(length, tf.int32), [batch])
        self.length = tf.maximum(length, 0)[:, tf.newaxis]
        self.first = rules.beam * tf.range(batch)[:, tf.newaxis]
        self.prefix = None
        if prefix is not None:
            # A last column of 0, where the search is free, is read after the end of the prefix.
            self.prefix = tf.pad(tf.cast(prefix, tf.int32), [[0, 0], [0, 1]])
        self.mask = None if mask is None else mask[:, tf.newaxis]
        self.longest = self.normalizer(self.length)

    def normalizer(self, length):
        """lp(Y), float32, of hypotheses of `length` ids."""
        return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** self.rules.length_penalty

    def begin(self, ids, state) -> _Beam:
        """The beam before the first step: an empty hypothesis of each sentence, the rest vacant."""
        K = self.rules.beam
        vacant = tf.tile(tf.range(K)[tf.newaxis] > 0, [self.batch, 1])
        score = tf.where(vacant, NONE, 0.0)
        return _Beam(
            t=tf.constant(0),
            ids=repeat_rows(tf.cast(ids, tf.int32), K),
            state=repeat_rows(state, K),
            total=score,
            score=score,
            finished=vacant | (self.length == 0),
            history=tf.zeros([self.batch * K, 0, 2], tf.int32),
            coverage=tf.zeros([self.batch * K, 1]),
            attention=tf.zeros([0]),
        )

    def is_open(self, beam: _Beam):
        """Whether an unfinished hypothesis of any sentence may still become one of its N best.

        Its final score is at most log p(Y) / lp(longest), because log p only falls and the coverage
        penalty is 0 or less.
        """
        finished = tf.where(beam.finished, beam.score, NONE)
        to_beat = tf.math.top_k(finished, self.rules.n_best).values[:, -1:]
        return tf.reduce_any(~beam.finished & (beam.total / self.longest >= to_beat))

    def advance(self, beam: _Beam) -> tuple[_Beam]:
        """Extend every unfinished hypothesis by one id and keep the K best: the next beam."""
        logits, state, attention = self.step(beam.ids, beam.state)
        log_p = tf.nn.log_softmax(without(logits, self.rules.banned))
        gains, ids = self.candidates(beam, log_p)
        coverage = beam.coverage
        if self.rules.coverage_penalty:
            coverage += attention
        sums = tf.expand_dims(beam.total, 2) + gains
        # A finished hypothesis competes once, with the score that it has.
        frozen = tf.expand_dims(beam.score, 2) + _only_first(gains.shape[2])
        scores = self.ranked(sums, beam.t + 1, coverage)
        scores = tf.where(tf.expand_dims(beam.finished, 2), frozen, scores)
        return (self.chosen(beam, ids, sums, scores, state, coverage, attention),)

    def candidates(self, beam: _Beam, log_p):
        """What the likeliest next ids add to log p, and these ids: both [B, K, C]."""
        rules = self.rules
        allowed = without_repeats(log_p, beam.history[..., 0], rules.no_repeat_ngram)
        # One more candidate than K, because `min_length` may forbid the end id among them.
        C = min(rules.beam + (rules.min_length > 0), log_p.shape[1])
        gains, ids = (tf.reshape(x, [-1, rules.beam, C]) for x in tf.math.top_k(allowed, C))
        if rules.min_length:
            gains = tf.where((ids == END) & (beam.t < rules.min_length), NONE, gains)
        if self.prefix is None:
            return gains, ids
        column = tf.minimum(beam.t, tf.shape(self.prefix)[1] - 1)
        forced = repeat_rows(tf.gather(self.prefix, column, axis=1), rules.beam)
        indices = forced + log_p.shape[1] * tf.range(tf.size(forced))
        gain = tf.gather(tf.reshape(log_p, [-1]), indices)
        # A forced id without probability adds 0; -inf would make the hypothesis vacant.
        gain = tf.reshape(tf.where(gain == NONE, 0.0, gain), [-1, rules.beam, 1])
        forced = tf.reshape(forced, [-1, rules.beam, 1])
        gains = tf.where(forced == PAD, gains, gain + _only_first(C))
        return gains, tf.where(forced == PAD, ids, forced)

    def ranked(self, sums, t, coverage):
        """The scores log p(Y) / lp(Y) + cp(Y) of candidates of `t` ids, from log p(Y) [B, K, C]."""
        rules = self.rules
        if rules.length_penalty:
            sums = sums / self.normalizer(t)
        if not rules.coverage_penalty:
            return sums
        if not self.step.reports:
            expected = "0 with a step function that reports no attention"
            raise InputError("coverage_penalty", expected, rules.coverage_penalty, "set it to 0")
        nats = tf.math.log(tf.clip_by_value(coverage, LEAST, 1.0))
        nats = tf.reshape(nats, [self.batch, rules.beam, -1])
        if self.mask is not None:
            nats = tf.where(self.mask, nats, 0.0)
        return sums + rules.coverage_penalty * tf.reduce_sum(nats, axis=2, keepdims=True)

    def chosen(self, beam: _Beam, ids, sums, scores, state, coverage, attention) -> _Beam:
        """The beam of the K candidates with the best scores [B, K, C]."""
        K, C = self.rules.beam, scores.shape[2]
        score, best = tf.math.top_k(tf.reshape(scores, [self.batch, K * C]), K)
        indices = tf.reshape(best + C * self.first, [-1])  # of candidates, over all sentences
        rows = indices // C
        was_finished = tf.gather(tf.reshape(beam.finished, [-1]), rows)
        taken = tf.where(was_finished, PAD, tf.gather(tf.reshape(ids, [-1]), indices))
        finished = tf.reshape(was_finished | (taken == END), [-1, K])
        finished |= (beam.t + 1 >= self.length) | (score == NONE)
        total = tf.reshape(tf.gather(tf.reshape(sums, [-1]), indices), [-1, K])
        last_step = tf.expand_dims(tf.stack([taken, rows], axis=1), 1)
        if self.rules.coverage_penalty:
            coverage = tf.gather(coverage, rows)
        return _Beam(
            t=beam.t + 1,
            ids=taken,
            state=tf.nest.map_structure(lambda x: tf.gather(x, rows), state),
            total=total,
            score=score,
            finished=finished,
            history=tf.concat([tf.gather(beam.history, rows), last_step], axis=1),
            coverage=coverage,
            attention=tf.concat([beam.attention, tf.reshape(attention, [-1])], axis=0),
        )

    def decoded(self, last: _Beam) -> Decoded:
        """The N best hypotheses of the last beam, as `beam_search` returns them."""
        K, N, T = self.rules.beam, self.rules.n_best, last.t
        history = tf.gather(last.history, self.first + tf.range(N))
        ids, rows = history[..., 0], history[..., 1]
        ended = tf.cumsum(tf.cast(ids == END, tf.int32), axis=2)
        lengths = tf.reduce_sum(tf.cast(ended == 0, tf.int32), axis=2)
        score = last.score[:, :N]
        lengths = tf.where(score == NONE, 0, tf.minimum(lengths, self.length))
        inside = tf.range(T) < lengths[..., tf.newaxis]
        attention = self.step.attention(last.attention, self.batch * K, T)
        if attention is not None:
            # Attention is kept in the order before each choice, so it is looked up by those rows.
            attention = tf.gather(attention, rows + self.batch * K * tf.range(T))
            attention = tf.where(inside[..., tf.newaxis], attention, 0.0)
        return Decoded(tf.where(inside, ids, PAD), lengths, score, attention)


def _only_first(C: int) -> tf.Tensor:
    """[0, -inf, -inf, …] of length C: added to C candidates, it keeps the first only."""
    return tf.constant([0.0] + [NONE] * (C - 1))


def _check(ids, state, length, prefix, mask) -> None:
    """Raise InputError for a wrong rank or a wrong number of rows, where these are static."""
    named = {"ids": (ids, 1, "[B]"), "prefix": (prefix, 2, "[B, P]"), "mask": (mask, 2, "[B, S]")}
    for name, (tensor, rank, shape) in named.items():
        if tensor is not None and tensor.shape.rank != rank:
            raise InputError(name, f"a tensor {shape}", tensor.shape, "reshape it")
    if length.shape.rank > 1:
        raise InputError("length", "a scalar or a tensor [B]", length.shape, "reshape it")
    for tensor in tf.nest.flatten(state):
        if not ids.shape[:1].is_compatible_with(tensor.shape[:1]):
            expected = f"tensors of {ids.shape[0]} rows, one of each sentence"
            raise InputError("state", expected, tensor.shape[0], "leave it to the search to repeat")


def beam_search(
    step: Step, ids, state, length, *, rules: BeamRules | None = None, prefix=None, mask=None
) -> Decoded:
    """Search the best sequences of up to `length` ids, K hypotheses at a time.

    Each step extends every unfinished hypothesis by its likeliest ids. The K candidates with the
    highest scores (see `BeamRules`) are kept; a finished hypothesis competes with the score that it
    has. A hypothesis is finished by the end id or by the length. The search of a sentence ends when
    all K are finished. It ends earlier when no unfinished one can become one of the N best, which
    does not change the result. Of equal scores, the earlier hypothesis and the lower id come first.
    No sentence depends on the others of its batch.

    Args:
        step: the step function, called on R = B·K rows, the rows of a sentence side by side. A
            tensor that it closes over, such as the memory of the source, must be repeated K
            times (`repeat_rows`).
        ids: int32 [B], the first input ids.
        state: the first state, any nest of tensors of B rows.
        length: int scalar or [B], the most ids to take, the end id included.
        rules: the score and the limits; by default `BeamRules()`.
        prefix: int32 [B, P], ids that the result must begin with, 0 where the search is free. They
            count in log p, but a banned id or one without probability adds 0.
        mask: bool [B, S], False where the source is padded; the coverage penalty ignores padding.

    Returns:
        `Decoded` with ids [B, N, T], lengths and scores [B, N], attention [B, N, T, S] or None,
        best first. Where there are fewer than N sequences, the score is -inf and the length 0.

    Raises:
        InputError: when a tensor has another rank or number of rows, or when a coverage penalty
            is set and the step function reports no attention.

    Id 4 is the likelier first id, but the best sequence begins with 5:

    >>> p = [[0, 0, 0, 0, 0.6, 0.4], [0, 0, 0, 0.5, 0.5, 0], [0, 0, 0, 0.9, 0.1, 0]]
    >>> automaton = lambda ids, state: (tf.math.log(tf.gather(p, tf.maximum(ids - 3, 0))), state)
    >>> rules = BeamRules(beam=2, n_best=2)
    >>> decoded = beam_search(automaton, tf.constant([2]), (), 4, rules=rules)
    >>> decoded.ids.numpy().tolist(), [f"{p:.2f}" for p in tf.exp(decoded.scores)[0]]
    ([[[5, 0], [4, 0]]], ['0.36', '0.30'])
    """
    rules = BeamRules() if rules is None else rules
    ids, length = tf.convert_to_tensor(ids), tf.convert_to_tensor(length)
    prefix = None if prefix is None else tf.convert_to_tensor(prefix)
    mask = None if mask is None else tf.convert_to_tensor(mask)
    _check(ids, state, length, prefix, mask)
    search = _Search(step, tf.shape(ids)[0], length, rules, prefix, mask)
    begin = search.begin(ids, state)
    # The numbers of rows and steps, and S, are known only when the graph runs.
    shapes = tf.nest.map_structure(
        lambda x: tf.TensorShape([None, *x.shape[1:]][: x.shape.rank]), begin
    )
    shapes = shapes._replace(
        history=tf.TensorShape([None, None, 2]), coverage=tf.TensorShape([None, None])
    )
    (last,) = tf.while_loop(search.is_open, search.advance, (begin,), shape_invariants=(shapes,))
    return search.decoded(last)


def without_repeats(log_p, ids, n: int) -> tf.Tensor:
    """`log_p` [R, V] with -inf for ids that would complete n ids already present in `ids` [R, t].

    >>> log_p, ids = tf.zeros([1, 6]), tf.constant([[4, 5, 4]])
    >>> without_repeats(log_p, ids, 2).numpy()[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, -inf]
    """
    if not n:
        return log_p
    rows, t = tf.shape(ids)[0], tf.shape(ids)[1]
    before = tf.pad(ids, [[0, 0], [n - 1, 0]], constant_values=-1)
    # For each id taken: whether the n - 1 ids before it are also the last n - 1 of the row.
    repeats = tf.ones_like(ids, tf.bool)
    for j in range(n - 1):
        repeats &= before[:, j : j + t] == before[:, t + j : t + j + 1]
    indices = ids + log_p.shape[1] * tf.range(rows)[:, tf.newaxis]
    lowered = tf.tensor_scatter_nd_add(
        tf.reshape(log_p, [-1]),
        tf.reshape(indices, [-1, 1]),
        tf.reshape(tf.where(repeats, NONE, 0.0), [-1]),
    )
    return tf.reshape(lowered, tf.shape(log_p))
