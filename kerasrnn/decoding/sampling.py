"""Decoding over a step function, all of it graph code that TensorFlow and ONNX run alike.

A step function takes ids int32 [R] and a state (any nest of tensors with R rows) and gives logits
[R, V] and the next state, and may give attention [R, S] beside them. B batch, R rows (B, or more
where each of the batch has several), S source time, T steps run, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import InputError

PAD, END = 0, 3
Step = Callable[[tf.Tensor, Any], tuple]


class Decoded(NamedTuple):
    """What a decoder gives; a beam search has an axis N behind B, the best hypothesis first.

    Attributes:
        ids: int32 [B, T], pads behind the end of a row.
        lengths: int32 [B], ids before the end.
        scores: float32 [B], log-probability of each row, its end included, banned ids left out;
            of a beam search the score that it ranks by.
        attention: float32 [B, T, S] where the step function reports it, 0 behind the end of a
            row; else None.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor
    attention: tf.Tensor | None = None


def _low(x) -> tf.Tensor:
    """The lower 32 bits; ONNX rounds the quotient of a negative number another way."""
    return tf.bitwise.bitwise_and(tf.cast(x, tf.int64), 2**32 - 1)


def _hash(x: tf.Tensor) -> tf.Tensor:
    """Mix int64 values below 2**32 (T. Mueller's 32-bit integer hash)."""
    for _ in range(2):
        x = _low(tf.bitwise.bitwise_xor(x, x // 65536) * 0x45D9F3B)
    return tf.bitwise.bitwise_xor(x, x // 65536)


def uniform(seed, rows, step) -> tf.Tensor:
    """Numbers in [0, 1) that depend on (seed, row, step) alone, the same in every runtime.

    Args:
        seed: int64 scalar; rows: int64 [B]; step: int64 scalar.

    Returns:
        float32 [B], multiples of 2**-24.
    """
    x = _low(seed)
    for part in (rows, step):
        x = _hash(_low(_hash(x) + tf.cast(part, tf.int64) + 0x9E3779B9))
    return tf.cast(x // 256, tf.float32) * (1.0 / (1 << 24))


def pick(logits, number, temperature, top_k, top_p) -> tf.Tensor:
    """Choose one id per row by inverting the distribution function at `number`.

    Args:
        logits: float32 [B, V].
        number: float32 [B] in [0, 1).
        temperature: scalar; 0 takes the likeliest id.
        top_k: scalar; only the k likeliest ids, 0 for all.
        top_p: scalar; only the likeliest ids that together reach probability p (Holtzman et
            al. 2020), 1 for all.

    Returns:
        int32 [B].
    """
    temperature = tf.cast(temperature, tf.float32)
    greedy = temperature <= 0.0
    values, order = tf.math.top_k(logits, k=tf.shape(logits)[-1])
    ranks = tf.range(tf.shape(logits)[-1], dtype=tf.int32)[tf.newaxis]
    p = tf.nn.softmax(values / tf.where(greedy, 1.0, temperature))
    before = tf.cumsum(p, axis=-1, exclusive=True)
    kept = ((ranks < top_k) | (top_k <= 0)) & (before < top_p) & (~greedy) | (ranks == 0)
    cumulative = tf.cumsum(tf.where(kept, p, 0.0), axis=-1)
    passed = cumulative <= number[:, tf.newaxis] * cumulative[:, -1:]
    rank = tf.reduce_sum(tf.cast(passed & kept, tf.int32), axis=-1, keepdims=True)
    last = tf.reduce_sum(tf.cast(kept, tf.int32), axis=-1, keepdims=True) - 1
    return tf.reduce_sum(tf.where(ranks == tf.minimum(rank, last), order, 0), axis=-1)


def draw(logits, t, seed, temperature, top_k, top_p) -> tf.Tensor:
    """`pick` with the numbers of step `t` of a seed: logits [B, V] -> int32 [B]."""
    rows = tf.range(tf.shape(logits, tf.int64)[0], dtype=tf.int64)
    return pick(logits, uniform(seed, rows, t), temperature, top_k, top_p)


def without(logits, banned: Sequence[int]) -> tf.Tensor:
    """`logits` [B, V], those of banned ids -inf."""
    if not banned:
        return logits
    ban = [float("-inf") if i in banned else 0.0 for i in range(logits.shape[-1])]
    return logits + tf.constant(ban)


class StepAdapter:
    """A step function with one form of result: logits float32 [R, V], state, attention float32.

    Attention is [R, S], or [R, 0] where the step function reports none; `reports` says which,
    from the first call on.

    Raises:
        InputError: when the step function gives something else.
    """

    def __init__(self, step: Step):
        self.step, self.reports = step, False

    def __call__(self, ids, state):
        given = self.step(ids, state)
        if not isinstance(given, tuple) or len(given) not in (2, 3):
            expected = "(logits, state) or (logits, state, attention)"
            raise InputError("step", expected, type(given).__name__, "return such a tuple")
        logits, state, *attention = given
        if logits.shape.rank != 2 or logits.shape[1] is None:
            raise InputError("step", "logits [R, V], V known", logits.shape, "reshape them")
        self.reports = bool(attention)
        nothing = tf.zeros([tf.shape(ids)[0], 0])
        attention = tf.cast(attention[0], tf.float32) if attention else nothing
        return tf.cast(logits, tf.float32), state, attention

    def attention(self, written, rows, steps) -> tf.Tensor | None:
        """What was reported, written down one behind the other, [T·R·S] -> [T·R, S], or None.

        S is 1 where no step ran.
        """
        if not self.reports:
            return None
        S = tf.maximum(tf.size(written) // tf.maximum(rows * steps, 1), 1)
        return tf.reshape(written, [-1, S])


def _log_probability(logits, ids) -> tf.Tensor:
    """log p of `ids` [B] under `logits` [B, V], also where others are -inf."""
    chosen = tf.one_hot(ids, logits.shape[-1], on_value=True, off_value=False)
    return tf.reduce_sum(tf.where(chosen, tf.nn.log_softmax(logits), 0.0), axis=-1)


def _generate(step: Step, ids, state, length, choose: Callable, banned) -> Decoded:
    """One id after the other, `choose(logits [B, V], t)` -> int32 [B]; arguments as in `sample`."""
    batch, step = tf.shape(ids)[0], StepAdapter(step)
    length = tf.broadcast_to(tf.cast(length, tf.int32), [batch])

    def body(t, ids, state, finished, scores, written, attention):
        logits, state, now = step(ids, state)
        logits = without(logits, banned)
        drawn = choose(logits, t)
        scores += tf.where(finished, 0.0, _log_probability(logits, drawn))
        drawn = tf.where(finished, PAD, drawn)
        finished |= (drawn == END) | (t + 1 >= length)
        written = tf.concat([written, drawn[:, tf.newaxis]], axis=1)
        attention = tf.concat([attention, tf.reshape(now, [-1])], axis=0)
        return t + 1, drawn, state, finished, scores, written, attention

    nothing = tf.zeros([batch]), tf.zeros([batch, 0], tf.int32), tf.zeros([0])
    begin = (tf.constant(0), tf.cast(ids, tf.int32), state, length <= 0, *nothing)
    shapes = tf.nest.map_structure(lambda tensor: tensor.shape, begin)
    t, *_, scores, drawn, attention = tf.while_loop(
        lambda t, ids, state, finished, *_: ~tf.reduce_all(finished),
        body,
        begin,
        shape_invariants=(*shapes[:-2], tf.TensorShape([None, None]), tf.TensorShape([None])),
    )
    ended = tf.cumsum(tf.cast(drawn == END, tf.int32), axis=1)
    lengths = tf.reduce_sum(tf.cast(ended == 0, tf.int32), axis=1)
    lengths = tf.minimum(lengths, tf.maximum(length, 0))
    attention = step.attention(attention, batch, t)
    if attention is not None:
        inside = tf.range(t) < lengths[:, tf.newaxis]
        places = tf.range(batch)[:, tf.newaxis] + batch * tf.range(t)
        attention = tf.where(inside[..., tf.newaxis], tf.gather(attention, places), 0.0)
    return Decoded(tf.where(drawn == END, PAD, drawn), lengths, scores, attention)


class Sampling(NamedTuple):
    """How ids are drawn; each is a number or a scalar tensor.

    Attributes:
        temperature: of the softmax; 0 takes the likeliest id.
        top_k: only the k likeliest ids, 0 for all.
        top_p: only the likeliest ids that together reach probability p, 1 for all.
        seed: the same seed draws the same ids.
    """

    temperature: Any = 1.0
    top_k: Any = 0
    top_p: Any = 1.0
    seed: Any = 0


def sample(
    step: Step,
    ids: tf.Tensor,
    state: Any,
    length,
    sampling: Sampling = Sampling(),  # noqa: B008  (it never changes)
    *,
    banned: Sequence[int] = (),
) -> Decoded:
    """Draw up to `length` ids per row; a row that drew the end id is finished and stays pad.

    Args:
        step: the step function.
        ids: int32 [B], the ids to begin with.
        state: the state to begin with, any nest of tensors with B first.
        length: int scalar or [B], the most ids to draw; 0 gives T = 0.
        sampling: how each id is drawn; temperature 0 is greedy.
        banned: ids that are never drawn.

    Raises:
        InputError: when the result of the step function has another form.

    >>> cycle = lambda ids, state: (10.0 * tf.one_hot((ids + 1) % 7, 7), state)
    >>> decoded = sample(cycle, tf.constant([4, 1]), (), 4, Sampling(temperature=0.0))
    >>> decoded.ids.numpy().tolist(), decoded.lengths.numpy().tolist()
    ([[5, 6, 0, 1], [2, 0, 0, 0]], [4, 1])
    """
    temperature, top_k, top_p, seed = sampling
    scalars = tf.cast(temperature, tf.float32), tf.cast(top_k, tf.int32), tf.cast(top_p, tf.float32)

    def choose(logits, t):
        return draw(logits, t, seed, *scalars)

    return _generate(step, ids, state, length, choose, banned)


def greedy(step: Step, ids, state, length, *, banned: Sequence[int] = ()) -> Decoded:
    """The likeliest id each time, the lower one of equals; arguments and result as in `sample`.

    It is `sample` at temperature 0, without sorting the vocabulary.

    >>> cycle = lambda ids, state: (10.0 * tf.one_hot((ids + 1) % 7, 7), state)
    >>> greedy(cycle, tf.constant([4, 1]), (), [3, 1]).ids.numpy().tolist()
    [[5, 6, 0], [2, 0, 0]]
    """

    def choose(logits, t):
        return tf.argmax(logits, axis=-1, output_type=tf.int32)

    return _generate(step, ids, state, length, choose, banned)


def repeated(nest, times: int):
    """Each row of each tensor `times` times, its copies side by side; None stays None.

    >>> repeated((tf.constant([4, 5]), None), 2)[0].numpy().tolist()
    [4, 4, 5, 5]
    """

    def rows(x):
        return None if x is None else tf.gather(x, tf.range(times * tf.shape(x)[0]) // times)

    return tf.nest.map_structure(rows, nest)


def ensemble(steps: Sequence[Step]) -> Step:
    """Several step functions over one vocabulary as one: the mean of their probabilities.

    Its state is the tuple of their states, its logits are log(1/n Σ_i p_i), its attention the
    mean over those that report it.

    Raises:
        InputError: when there is none, or, at the first step, when vocabularies differ.

    >>> says = lambda *p: lambda ids, state: (tf.math.log([p]), state)
    >>> both = ensemble([says(0.9, 0.1), says(0.5, 0.5)])
    >>> [f"{p:.1f}" for p in tf.exp(both(tf.constant([0]), ((), ()))[0])[0]]
    ['0.7', '0.3']
    """
    if not steps:
        raise InputError("steps", "one step function or more", "none", "give a list of them")
    steps = [StepAdapter(step) for step in steps]

    def step(ids, states):
        given = [one(ids, state) for one, state in zip(steps, states, strict=True)]
        logits, states, attention = zip(*given, strict=True)
        sizes = [x.shape[1] for x in logits]
        if len(set(sizes)) > 1:
            raise InputError("steps", "one vocabulary", f"sizes {sizes}", "train them on the same")
        nats = tf.stack([tf.nn.log_softmax(x) for x in logits])
        mean = tf.reduce_logsumexp(nats, axis=0) - tf.math.log(float(len(steps)))
        reported = [a for one, a in zip(steps, attention, strict=True) if one.reports]
        return (mean, states, tf.add_n(reported) / len(reported)) if reported else (mean, states)

    return step


def most_attended(attention) -> tf.Tensor:
    """Attention float32 [..., T, S] -> the source position of the most, int32 [..., T]."""
    return tf.argmax(attention, axis=-1, output_type=tf.int32)


def right_aligned(ids):
    """Ids int32 [B, P], padded behind -> padded before, so that what follows touches them.

    >>> right_aligned(tf.constant([[4, 5, 0], [6, 0, 0]])).numpy().tolist()
    [[0, 4, 5], [0, 0, 6]]
    """
    lengths = tf.reduce_sum(tf.cast(ids != 0, tf.int32), axis=1)
    return tf.reverse(tf.reverse_sequence(ids, lengths, seq_axis=1), axis=[1])
