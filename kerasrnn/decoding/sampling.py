"""Greedy decoding and sampling, as graph code that runs alike in TensorFlow and in ONNX.

A step function takes ids int32 [R] and a state (any nest of tensors with R rows). It returns logits
[R, V] and the next state, and may return attention [R, S] as a third. B batch, R rows (B, or more
where a sentence has several), S source time, T steps run, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import InputError

PAD, END = 0, 3
Step = Callable[[tf.Tensor, Any], tuple]


class Decoded(NamedTuple):
    """The result of decoding. A beam search adds an axis N behind B, the best hypothesis first.

    Attributes:
        ids: int32 [B, T], padded with 0 from the end of a row.
        lengths: int32 [B], the number of ids before the end.
        scores: float32 [B], the log-probability of each row with its end id, where banned ids have
            none; for a beam search, the score by which it ranks.
        attention: float32 [B, T, S], 0 from the end of a row; None where the step function
            reports no attention.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor
    attention: tf.Tensor | None = None


def _low(x) -> tf.Tensor:
    """The lower 32 bits, as int64 of 0 or more.

    ONNX and TensorFlow round the quotient of a negative number in different ways.
    """
    return tf.bitwise.bitwise_and(tf.cast(x, tf.int64), 2**32 - 1)


def _hash(x: tf.Tensor) -> tf.Tensor:
    """Mix the bits of int64 values below 2**32 (T. Mueller's 32-bit integer hash)."""
    # x // 65536 is a shift by 16 bits.
    for _ in range(2):
        x = _low(tf.bitwise.bitwise_xor(x, x // 65536) * 0x45D9F3B)
    return tf.bitwise.bitwise_xor(x, x // 65536)


def uniform(seed, rows, step) -> tf.Tensor:
    """Pseudorandom numbers in [0, 1) from (seed, row, step) alone, equal in every runtime.

    Args:
        seed: int64 scalar; rows: int64 [B]; step: int64 scalar.

    Returns:
        float32 [B], multiples of 2**-24.
    """
    x = _low(seed)
    for part in (rows, step):
        x = _hash(_low(_hash(x) + tf.cast(part, tf.int64) + 0x9E3779B9))
    # float32 has 24 bits, so the upper 24 of the 32 are exact.
    return tf.cast(x // 256, tf.float32) * (1.0 / (1 << 24))


def pick(logits, number, temperature, top_k, top_p) -> tf.Tensor:
    """Choose one id per row: invert the cumulative distribution at `number`.

    Args:
        logits: float32 [B, V].
        number: float32 [B] in [0, 1).
        temperature: scalar that divides the logits; 0 takes the likeliest id.
        top_k: scalar; only the k likeliest ids, 0 for all.
        top_p: scalar; only the likeliest ids that together reach probability p (Holtzman et
            al. 2020), 1 for all.

    Returns:
        int32 [B].
    """
    temperature = tf.cast(temperature, tf.float32)
    is_greedy = temperature <= 0.0
    values, order = tf.math.top_k(logits, k=tf.shape(logits)[-1])
    ranks = tf.range(tf.shape(logits)[-1], dtype=tf.int32)[tf.newaxis]
    p = tf.nn.softmax(values / tf.where(is_greedy, 1.0, temperature))
    before = tf.cumsum(p, axis=-1, exclusive=True)
    kept = ((ranks < top_k) | (top_k <= 0)) & (before < top_p) & (~is_greedy) | (ranks == 0)
    cumulative = tf.cumsum(tf.where(kept, p, 0.0), axis=-1)
    passed = cumulative <= number[:, tf.newaxis] * cumulative[:, -1:]
    rank = tf.reduce_sum(tf.cast(passed & kept, tf.int32), axis=-1, keepdims=True)
    # Rounding can carry the rank past the last id kept, so it is limited.
    last = tf.reduce_sum(tf.cast(kept, tf.int32), axis=-1, keepdims=True) - 1
    return tf.reduce_sum(tf.where(ranks == tf.minimum(rank, last), order, 0), axis=-1)


def draw(logits, t, seed, temperature, top_k, top_p) -> tf.Tensor:
    """`pick` with the random numbers of step `t` under a seed: logits [B, V] -> int32 [B]."""
    rows = tf.range(tf.shape(logits, tf.int64)[0], dtype=tf.int64)
    return pick(logits, uniform(seed, rows, t), temperature, top_k, top_p)


def without(logits, banned: Sequence[int]) -> tf.Tensor:
    """`logits` [B, V] with -inf for banned ids."""
    if not banned:
        return logits
    ban = [float("-inf") if i in banned else 0.0 for i in range(logits.shape[-1])]
    return logits + tf.constant(ban)


class StepAdapter:
    """A step function that always returns logits float32 [R, V], state and attention float32.

    Attention is [R, S], or [R, 0] where the step function reports none.

    Attributes:
        reports: whether the step function reports attention; valid after the first call.

    Raises:
        InputError: at a call, when the step function returns something else.
    """

    def __init__(self, step: Step):
        self.step, self.reports = step, False

    def __call__(self, ids, state):
        result = self.step(ids, state)
        if not isinstance(result, tuple) or len(result) not in (2, 3):
            expected = "(logits, state) or (logits, state, attention)"
            raise InputError("step", expected, type(result).__name__, "return such a tuple")
        logits, state, *attention = result
        if logits.shape.rank != 2 or logits.shape[1] is None:
            raise InputError("step", "logits [R, V], V known", logits.shape, "reshape them")
        self.reports = bool(attention)
        empty = tf.zeros([tf.shape(ids)[0], 0])
        attention = tf.cast(attention[0], tf.float32) if attention else empty
        return tf.cast(logits, tf.float32), state, attention

    def attention(self, flat, rows, steps) -> tf.Tensor | None:
        """The attention of all steps [T·R, S] from its flat form [T·R·S]; None where none.

        S is 1 where no step ran.
        """
        if not self.reports:
            return None
        S = tf.maximum(tf.size(flat) // tf.maximum(rows * steps, 1), 1)
        return tf.reshape(flat, [-1, S])


def _log_probability(logits, ids) -> tf.Tensor:
    """log p of `ids` [B] under `logits` [B, V]; other logits may be -inf."""
    chosen = tf.one_hot(ids, logits.shape[-1], on_value=True, off_value=False)
    # A product with a one-hot vector of floats would give 0 · -inf, which is NaN.
    return tf.reduce_sum(tf.where(chosen, tf.nn.log_softmax(logits), 0.0), axis=-1)


def _generate(step: Step, ids, state, length, choose: Callable, banned) -> Decoded:
    """Decode with `choose(logits [B, V], t) -> ids int32 [B]`; other arguments as in `sample`."""
    batch, step = tf.shape(ids)[0], StepAdapter(step)
    length = tf.broadcast_to(tf.cast(length, tf.int32), [batch])

    def body(t, ids, state, finished, scores, history, attention):
        logits, state, attention_t = step(ids, state)
        logits = without(logits, banned)
        drawn = choose(logits, t)
        scores += tf.where(finished, 0.0, _log_probability(logits, drawn))
        drawn = tf.where(finished, PAD, drawn)
        finished |= (drawn == END) | (t + 1 >= length)
        history = tf.concat([history, drawn[:, tf.newaxis]], axis=1)
        attention = tf.concat([attention, tf.reshape(attention_t, [-1])], axis=0)
        return t + 1, drawn, state, finished, scores, history, attention

    # Scores, history and attention. Attention is flat, since S is not known before a step ran.
    results = tf.zeros([batch]), tf.zeros([batch, 0], tf.int32), tf.zeros([0])
    begin = (tf.constant(0), tf.cast(ids, tf.int32), state, length <= 0, *results)
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
        rows = tf.range(batch)[:, tf.newaxis] + batch * tf.range(t)
        attention = tf.where(inside[..., tf.newaxis], tf.gather(attention, rows), 0.0)
    return Decoded(tf.where(drawn == END, PAD, drawn), lengths, scores, attention)


class Sampling(NamedTuple):
    """How ids are drawn; each setting is a number or a scalar tensor.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest id.
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
    """Draw up to `length` ids per row. A row ends with the end id and is then padded.

    Args:
        step: the step function.
        ids: int32 [B], the first input ids.
        state: the first state, any nest of tensors of B rows.
        length: int scalar or [B], the most ids to draw; 0 gives T = 0.
        sampling: how each id is drawn; temperature 0 is greedy.
        banned: ids that are never drawn.

    Returns:
        `Decoded` with ids [B, T], lengths and scores [B], attention [B, T, S] or None.

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
    """Take the likeliest id at each step, the lower id of equals; otherwise as `sample`.

    The result is that of `sample` at temperature 0, but the vocabulary is not sorted.

    >>> cycle = lambda ids, state: (10.0 * tf.one_hot((ids + 1) % 7, 7), state)
    >>> greedy(cycle, tf.constant([4, 1]), (), [3, 1]).ids.numpy().tolist()
    [[5, 6, 0], [2, 0, 0]]
    """

    def choose(logits, t):
        return tf.argmax(logits, axis=-1, output_type=tf.int32)

    return _generate(step, ids, state, length, choose, banned)


def repeat_rows(nest, times: int):
    """Repeat each row of each tensor `times` times, copies side by side; None stays None.

    >>> repeat_rows((tf.constant([4, 5]), None), 2)[0].numpy().tolist()
    [4, 4, 5, 5]
    """

    def rows(x):
        return None if x is None else tf.gather(x, tf.range(times * tf.shape(x)[0]) // times)

    return tf.nest.map_structure(rows, nest)


def ensemble(steps: Sequence[Step]) -> Step:
    """One step function from n step functions over one vocabulary: the mean of their probabilities.

    Its state is the tuple of their states. Its logits are log(1/n Σ_i p_i). Its attention is the
    mean over the step functions that report it.

    Raises:
        InputError: when `steps` is empty; at the first step, when the vocabularies differ in size.

    >>> fixed = lambda *p: lambda ids, state: (tf.math.log([p]), state)
    >>> mean = ensemble([fixed(0.9, 0.1), fixed(0.5, 0.5)])
    >>> [f"{p:.1f}" for p in tf.exp(mean(tf.constant([0]), ((), ()))[0])[0]]
    ['0.7', '0.3']
    """
    if not steps:
        raise InputError("steps", "one step function or more", "none", "give a list of them")
    steps = [StepAdapter(step) for step in steps]

    def step(ids, states):
        results = [member(ids, state) for member, state in zip(steps, states, strict=True)]
        logits, states, attention = zip(*results, strict=True)
        sizes = [x.shape[1] for x in logits]
        if len(set(sizes)) > 1:
            raise InputError("steps", "one vocabulary", f"sizes {sizes}", "train them on the same")
        nats = tf.stack([tf.nn.log_softmax(x) for x in logits])
        mean = tf.reduce_logsumexp(nats, axis=0) - tf.math.log(float(len(steps)))
        reported = [a for member, a in zip(steps, attention, strict=True) if member.reports]
        return (mean, states, tf.add_n(reported) / len(reported)) if reported else (mean, states)

    return step


def most_attended(attention) -> tf.Tensor:
    """The source position with the most attention, int32 [..., T], from float32 [..., T, S]."""
    return tf.argmax(attention, axis=-1, output_type=tf.int32)


def right_aligned(ids):
    """Move the padding of ids int32 [B, P] from behind to before them, so that more ids can follow.

    >>> right_aligned(tf.constant([[4, 5, 0], [6, 0, 0]])).numpy().tolist()
    [[0, 4, 5], [0, 0, 6]]
    """
    lengths = tf.reduce_sum(tf.cast(ids != 0, tf.int32), axis=1)
    return tf.reverse(tf.reverse_sequence(ids, lengths, seq_axis=1), axis=[1])
