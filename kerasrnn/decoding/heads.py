"""Heads: what the parameters mean that a step gives. What a value costs, how one is drawn, which
is the likeliest.

B batch, T time, V vocabulary, D values in a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from kerasrnn.decoding.sampling import pick, uniform, without

Noise = Callable[[int], tf.Tensor]  # number -> float32 [B] in [0, 1), another for each number
EVEN = 6  # even numbers whose sum is about normal


class Head:
    """A head. What is drawn is fed back, so it is what every runtime gets, to the bit."""

    def nats(self, params, target):
        """What the target costs, -log p: float32, one number for each step."""
        raise NotImplementedError

    def draw(self, params, noise: Noise):
        """A value that is drawn, in the form of a target."""
        raise NotImplementedError

    def best(self, params):
        """The likeliest value."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tokens(Head):
    """Parameters are logits [..., V], values ids int32 [...].

    Args:
        banned: ids that are never drawn.

    >>> head = Tokens(banned=(1,))
    >>> head.best(tf.constant([[0.0, 9.0, 1.0]])).numpy().tolist()
    [2]
    """

    banned: Sequence[int] = ()

    def nats(self, params, target):
        logits = tf.cast(params, tf.float32)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits)

    def draw(self, params, noise):
        return pick(without(params, self.banned), noise(0), 1.0, 0, 1.0)

    def best(self, params):
        return tf.argmax(without(params, self.banned), axis=-1, output_type=tf.int32)


@dataclass(frozen=True)
class Normal(Head):
    """Parameters are means [..., D], values float32 [..., D], each normal around its mean.

    Args:
        scale: the standard deviation.
        grid: what is drawn is rounded to multiples of it.

    >>> round(float(Normal(scale=1.0).nats(tf.zeros([1]), tf.zeros([1]))), 4)
    0.9189
    """

    scale: float = 1.0
    grid: float = 1 / 64

    def nats(self, params, target):
        off = (target - params) / self.scale
        constant = math.log(self.scale * math.sqrt(2 * math.pi))
        return tf.reduce_sum(0.5 * tf.square(off) + constant, axis=-1)

    def draw(self, params, noise):
        width = params.shape[-1]
        # The sum of even numbers has the variance EVEN / 12; arithmetic is alike everywhere.
        sums = [
            tf.add_n([noise(EVEN * d + i) for i in range(EVEN)]) - EVEN / 2 for d in range(width)
        ]
        normal = tf.stack(sums, axis=-1) * math.sqrt(12 / EVEN)
        return self._on_grid(params + self.scale * normal)

    def best(self, params):
        return self._on_grid(params)

    def _on_grid(self, values):
        return tf.round(values / self.grid) * self.grid


def draw_values(step: Callable, head: Head, first, state, length, seed):
    """Draw values one after another; each is fed back. Graph code that converts to ONNX.

    Args:
        step: (value before [B, D], state) -> (params [B, D], state).
        head: of float values, which never end.
        first: float32 [B, D], what stands before the first.
        state: a nest of tensors.
        length: int32 scalar T.
        seed: int32 scalar; the same seed draws the same values in every runtime.

    Returns:
        float32 [B, T, D].

    >>> values = draw_values(lambda x, s: (x + 1.0, s), Normal(0.0), tf.zeros([1, 1]), (), 3, 1)
    >>> values[0, :, 0].numpy().tolist()
    [1.0, 2.0, 3.0]
    """
    length, seed = tf.cast(length, tf.int32), tf.cast(seed, tf.int64)
    written = tf.TensorArray(tf.float32, size=length, element_shape=first.shape)
    rows = tf.range(tf.shape(first, tf.int64)[0])

    def body(t, value, state, written):
        def noise(number: int):
            return uniform(seed, rows, tf.cast(t, tf.int64) + 2**20 * number)

        params, state = step(value, state)
        value = head.draw(params, noise)
        return t + 1, value, state, written.write(t, value)

    begin = (tf.constant(0), first, state, written)
    *_, written = tf.while_loop(lambda t, *_: t < length, body, begin)
    return tf.transpose(written.stack(), [1, 0, 2])
