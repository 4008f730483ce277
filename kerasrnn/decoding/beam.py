"""Beam search over a step function, all of it graph code that TensorFlow and ONNX run alike.

B sentences, K hypotheses of each, R = B·K rows (row b·K + k), N hypotheses given back, C
candidates of each hypothesis, T steps run, S source time, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.sampling import END, PAD, Decoded, Step, StepAdapter, repeated, without

NONE = float("-inf")  # the score of a hypothesis that does not exist
LEAST = 1e-10  # that a source position counts as covered; its logarithm stays finite


@dataclass(frozen=True)
class BeamRules:
    """What a beam search looks for.

    Args:
        beam: K, hypotheses kept of each sentence; 1 is greedy.
        n_best: N, hypotheses given back, at most K.
        length_penalty: α of lp(Y) = ((5 + |Y|) / 6)^α, by which log p(Y) is divided (Wu et al.
            2016, equation 14); |Y| counts the end id, as log p(Y) does. 0 for none.
        coverage_penalty: β of cp(Y) = β Σ_i log(min(Σ_j p_ij, 1)), which is added, p_ij the
            attention of target id j to source position i (equation 15). 0 for none.
        min_length: ids before an end is allowed.
        no_repeat_ngram: n; no hypothesis holds the same n ids twice. 0 for any.
        banned: ids that are never taken; they have no share in the probability.

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
        least = {"beam": 1, "n_best": 1, "min_length": 0, "no_repeat_ngram": 0}
        for name, bound in least.items():
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
    """What one step hands to the next; hypotheses stand best first.

    Attributes:
        t: int32 scalar, steps run.
        ids: int32 [R], taken last.
        state: of the step function, R rows.
        total: float32 [B, K], log p of an unfinished hypothesis; without meaning of a finished.
        score: float32 [B, K], by which hypotheses are ranked; -inf where there is none.
        finished: bool [B, K]; also where there is none.
        history: int32 [R, t, 2], the ids taken and the row that each was taken from.
        coverage: float32 [R, S], attention summed over steps; [R, 1] before the first.
        attention: float32 [t·R·S], of each step before its hypotheses were reordered.
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
    """One search: what does not change from step to step, and the steps."""

    def __init__(self, step, batch, length, rules, prefix, mask):
        self.step, self.rules, self.batch = StepAdapter(step), rules, batch
        length = tf.broadcast_to(tf.cast(length, tf.int32), [batch])
        self.length = tf.maximum(length, 0)[:, tf.newaxis]
        self.first = rules.beam * tf.range(batch)[:, tf.newaxis]
        self.prefix = None
        if prefix is not None:
            self.prefix = tf.pad(tf.cast(prefix, tf.int32), [[0, 0], [0, 1]])
        self.mask = None if mask is None else mask[:, tf.newaxis]
        self.longest = self.normalizer(self.length)

    def normalizer(self, length):
        """lp(Y) of hypotheses of `length` ids."""
        return ((5.0 + tf.cast(length, tf.float32)) / 6.0) ** self.rules.length_penalty

    def begin(self, ids, state) -> _Beam:
        """One hypothesis of each sentence, empty; the other places are vacant."""
        K = self.rules.beam
        vacant = tf.tile(tf.range(K)[tf.newaxis] > 0, [self.batch, 1])
        score = tf.where(vacant, NONE, 0.0)
        return _Beam(
            t=tf.constant(0),
            ids=repeated(tf.cast(ids, tf.int32), K),
            state=repeated(state, K),
            total=score,
            score=score,
            finished=vacant | (self.length == 0),
            history=tf.zeros([self.batch * K, 0, 2], tf.int32),
            coverage=tf.zeros([self.batch * K, 1]),
            attention=tf.zeros([0]),
        )

    def is_open(self, now: _Beam):
        """Whether an unfinished hypothesis of any sentence may still come among its N best.

        It can end no better than log p(Y) / lp(longest): log p only falls, and the coverage
        penalty is never above 0.
        """
        finished = tf.where(now.finished, now.score, NONE)
        to_beat = tf.math.top_k(finished, self.rules.n_best).values[:, -1:]
        return tf.reduce_any(~now.finished & (now.total / self.longest >= to_beat))

    def advance(self, now: _Beam) -> tuple[_Beam]:
        """One id more in every unfinished hypothesis, and the K best of what this gives."""
        logits, state, attention = self.step(now.ids, now.state)
        log_p = tf.nn.log_softmax(without(logits, self.rules.banned))
        gains, ids = self.candidates(now, log_p)
        coverage = now.coverage
        if self.rules.coverage_penalty:
            coverage += attention
        sums = tf.expand_dims(now.total, 2) + gains
        frozen = tf.expand_dims(now.score, 2) + _only_first(gains.shape[2])
        ranked = self.ranked(sums, now.t + 1, coverage)
        ranked = tf.where(tf.expand_dims(now.finished, 2), frozen, ranked)
        return (self.chosen(now, ids, sums, ranked, state, coverage, attention),)

    def candidates(self, now: _Beam, log_p):
        """The likeliest ids after each hypothesis, what they add to log p: both [B, K, C]."""
        rules = self.rules
        free = without_repeats(log_p, now.history[..., 0], rules.no_repeat_ngram)
        # One more, because the end may fall out.
        C = min(rules.beam + (rules.min_length > 0), log_p.shape[1])
        gains, ids = (tf.reshape(x, [-1, rules.beam, C]) for x in tf.math.top_k(free, C))
        if rules.min_length:
            gains = tf.where((ids == END) & (now.t < rules.min_length), NONE, gains)
        if self.prefix is None:
            return gains, ids
        place = tf.minimum(now.t, tf.shape(self.prefix)[1] - 1)
        forced = repeated(tf.gather(self.prefix, place, axis=1), rules.beam)
        places = forced + log_p.shape[1] * tf.range(tf.size(forced))
        gain = tf.gather(tf.reshape(log_p, [-1]), places)
        gain = tf.reshape(tf.where(gain == NONE, 0.0, gain), [-1, rules.beam, 1])
        forced = tf.reshape(forced, [-1, rules.beam, 1])
        gains = tf.where(forced == PAD, gains, gain + _only_first(C))
        return gains, tf.where(forced == PAD, ids, forced)

    def ranked(self, sums, t, coverage):
        """log p(Y) [B, K, C] of candidates of `t` ids -> their scores, log p(Y) / lp(Y) + cp(Y)."""
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

    def chosen(self, now: _Beam, ids, sums, ranked, state, coverage, attention) -> _Beam:
        """The K best candidates as the next beam."""
        K, C = self.rules.beam, ranked.shape[2]
        score, best = tf.math.top_k(tf.reshape(ranked, [self.batch, K * C]), K)
        places = tf.reshape(best + C * self.first, [-1])
        rows = places // C
        over = tf.gather(tf.reshape(now.finished, [-1]), rows)
        taken = tf.where(over, PAD, tf.gather(tf.reshape(ids, [-1]), places))
        finished = tf.reshape(over | (taken == END), [-1, K])
        finished |= (now.t + 1 >= self.length) | (score == NONE)
        total = tf.reshape(tf.gather(tf.reshape(sums, [-1]), places), [-1, K])
        written = tf.expand_dims(tf.stack([taken, rows], axis=1), 1)
        if self.rules.coverage_penalty:
            coverage = tf.gather(coverage, rows)
        return _Beam(
            t=now.t + 1,
            ids=taken,
            state=tf.nest.map_structure(lambda x: tf.gather(x, rows), state),
            total=total,
            score=score,
            finished=finished,
            history=tf.concat([tf.gather(now.history, rows), written], axis=1),
            coverage=coverage,
            attention=tf.concat([now.attention, tf.reshape(attention, [-1])], axis=0),
        )

    def decoded(self, last: _Beam) -> Decoded:
        """The N best hypotheses of the last beam."""
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
            attention = tf.gather(attention, rows + self.batch * K * tf.range(T))
            attention = tf.where(inside[..., tf.newaxis], attention, 0.0)
        return Decoded(tf.where(inside, ids, PAD), lengths, score, attention)


def _only_first(C: int) -> tf.Tensor:
    """[0, -inf, -inf, …] of length C: added to candidates, it leaves the first of them."""
    return tf.constant([0.0] + [NONE] * (C - 1))


def _check(ids, state, length, prefix, mask) -> None:
    """Refuse tensors of a wrong rank or number of rows, where they are known (InputError)."""
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

    Each step extends every unfinished hypothesis by each of its likeliest ids; of these and the
    finished hypotheses, which stay as they are, the K of the highest score go on: log p(Y) /
    lp(Y) + cp(Y), as in `BeamRules`. A hypothesis is finished by the end id or by the length.
    The search of a sentence is over when all K are finished; it stops before, without changing
    the result, when no other can come among the N best. Of equal scores the earlier hypothesis
    and the lower id go first. No sentence depends on the others of its batch.

    Args:
        step: the step function, called on R = B·K rows, those of one sentence side by side; what
            it closes over, as the memory of the source, has to be `repeated` K times.
        ids: int32 [B], the ids to begin with.
        state: the state to begin with, any nest of tensors of B rows.
        length: int scalar or [B], the most ids to take, an end id among them.
        rules: what to look for; the default `BeamRules()`.
        prefix: int32 [B, P], ids to begin the result with, 0 where the search is free. They count
            in log p; one that is banned or has no probability adds nothing.
        mask: bool [B, S], False where the source is padded: left out of the coverage penalty.

    Returns:
        `Decoded` with ids [B, N, T], lengths and scores [B, N], attention [B, N, T, S] or None,
        best first. Where there are fewer sequences than N the score is -inf and the length 0.

    Raises:
        InputError: when a tensor has another rank or number of rows, or the coverage penalty has
            no attention to go by.

    The likelier first letter leads to the worse word:

    >>> p = [[0, 0, 0, 0, 0.6, 0.4], [0, 0, 0, 0.5, 0.5, 0], [0, 0, 0, 0.9, 0.1, 0]]
    >>> automaton = lambda ids, state: (tf.math.log(tf.gather(p, tf.maximum(ids - 3, 0))), state)
    >>> found = beam_search(automaton, tf.constant([2]), (), 4, rules=BeamRules(beam=2, n_best=2))
    >>> found.ids.numpy().tolist(), [f"{p:.2f}" for p in tf.exp(found.scores)[0]]
    ([[[5, 0], [4, 0]]], ['0.36', '0.30'])
    """
    rules = BeamRules() if rules is None else rules
    ids, length = tf.convert_to_tensor(ids), tf.convert_to_tensor(length)
    prefix = None if prefix is None else tf.convert_to_tensor(prefix)
    mask = None if mask is None else tf.convert_to_tensor(mask)
    _check(ids, state, length, prefix, mask)
    search = _Search(step, tf.shape(ids)[0], length, rules, prefix, mask)
    begin = search.begin(ids, state)
    # Rows, steps and S are counted while it runs.
    shapes = tf.nest.map_structure(
        lambda x: tf.TensorShape([None, *x.shape[1:]][: x.shape.rank]), begin
    )
    shapes = shapes._replace(
        history=tf.TensorShape([None, None, 2]), coverage=tf.TensorShape([None, None])
    )
    (last,) = tf.while_loop(search.is_open, search.advance, (begin,), shape_invariants=(shapes,))
    return search.decoded(last)


def without_repeats(log_p, ids, n: int) -> tf.Tensor:
    """`log_p` [R, V], -inf for ids that would repeat n ids which stand in `ids` [R, t] already.

    >>> log_p, ids = tf.zeros([1, 6]), tf.constant([[4, 5, 4]])
    >>> without_repeats(log_p, ids, 2).numpy()[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, -inf]
    """
    if not n:
        return log_p
    rows, t = tf.shape(ids)[0], tf.shape(ids)[1]
    before = tf.pad(ids, [[0, 0], [n - 1, 0]], constant_values=-1)
    repeats = tf.ones_like(ids, tf.bool)
    for j in range(n - 1):
        repeats &= before[:, j : j + t] == before[:, t + j : t + j + 1]
    places = ids + log_p.shape[1] * tf.range(rows)[:, tf.newaxis]
    lowered = tf.tensor_scatter_nd_add(
        tf.reshape(log_p, [-1]),
        tf.reshape(places, [-1, 1]),
        tf.reshape(tf.where(repeats, NONE, 0.0), [-1]),
    )
    return tf.reshape(lowered, tf.shape(log_p))
