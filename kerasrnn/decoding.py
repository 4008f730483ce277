"""Decoding over a step function, all of it graph code that TensorFlow and ONNX run alike.

A step function takes ids [B] and a state (any nest of tensors) and gives logits [B, V] and the
next state. B batch, T steps run, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

PAD, END = 0, 3
Step = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any]]


class Decoded(NamedTuple):
    """What a decoder gives.

    Attributes:
        ids: int32 [B, T], pads behind the end of a row.
        lengths: int32 [B], ids before the end.
        scores: float32 [B], log-probability of each row, its end included, banned ids left out.
        attention: float32 [B, T, S] where the step function reports it, else None.
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


def _without(logits, banned: Sequence[int]) -> tf.Tensor:
    """`logits` [B, V] as float32, those of banned ids too low to be drawn."""
    logits = tf.cast(logits, tf.float32)
    if not banned:
        return logits
    ban = tf.reduce_sum(tf.one_hot(list(banned), logits.shape[-1]), axis=0)
    return tf.where(ban[tf.newaxis] > 0, -1e9, logits)


def _log_probability(logits, ids) -> tf.Tensor:
    """log p of `ids` [B] under `logits` [B, V], also where others are -inf."""
    chosen = tf.one_hot(ids, logits.shape[-1], on_value=True, off_value=False)
    return tf.reduce_sum(tf.where(chosen, tf.nn.log_softmax(logits), 0.0), axis=-1)


def _decoded(drawn, scores) -> Decoded:
    """Ids as drawn, end ids among them -> what a decoder gives."""
    ended = tf.cumsum(tf.cast(drawn == END, tf.int32), axis=1)
    lengths = tf.reduce_sum(tf.cast(ended == 0, tf.int32), axis=1)
    return Decoded(tf.where(drawn == END, PAD, drawn), lengths, scores)


def sample(
    step: Step,
    ids: tf.Tensor,
    state: Any,
    length,
    *,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    seed=0,
    banned: Sequence[int] = (),
) -> Decoded:
    """Draw up to `length` ids per row; a row that drew the end id is finished and stays pad.

    Args:
        step: the step function.
        ids: int32 [B], the ids to begin with.
        state: the state to begin with, any nest of tensors with B first.
        length: int scalar, the most ids to draw; 0 gives T = 0.
        temperature, top_k, top_p: scalars, as in `pick`; temperature 0 is greedy.
        seed: int scalar; the same seed draws the same ids.
        banned: ids that are never drawn.

    >>> cycle = lambda ids, state: (10.0 * tf.one_hot((ids + 1) % 7, 7), state)
    >>> decoded = sample(cycle, tf.constant([4, 1]), (), 4, temperature=0.0)
    >>> decoded.ids.numpy().tolist(), decoded.lengths.numpy().tolist()
    ([[5, 6, 0, 1], [2, 0, 0, 0]], [4, 1])
    """
    batch, length = tf.shape(ids)[0], tf.cast(length, tf.int32)
    rows = tf.range(tf.cast(batch, tf.int64), dtype=tf.int64)
    scalars = tf.cast(temperature, tf.float32), tf.cast(top_k, tf.int32), tf.cast(top_p, tf.float32)

    def body(t, ids, state, finished, scores, written):
        logits, state = step(ids, state)
        logits = _without(logits, banned)
        drawn = pick(logits, uniform(seed, rows, t), *scalars)
        scores += tf.where(finished, 0.0, _log_probability(logits, drawn))
        drawn = tf.where(finished, PAD, drawn)
        written = tf.concat([written, drawn[:, tf.newaxis]], axis=1)
        return t + 1, drawn, state, finished | (drawn == END), scores, written

    nothing = tf.fill([batch], False), tf.zeros([batch]), tf.zeros([batch, 0], tf.int32)
    begin = (tf.constant(0), tf.cast(ids, tf.int32), state, *nothing)
    shapes = tf.nest.map_structure(lambda tensor: tensor.shape, begin)
    *_, scores, drawn = tf.while_loop(
        lambda t, ids, state, finished, *_: (t < length) & ~tf.reduce_all(finished),
        body,
        begin,
        shape_invariants=(*shapes[:-1], tf.TensorShape([None, None])),
    )
    return _decoded(drawn, scores)
