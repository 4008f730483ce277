"""Loss terms of attention: doubly stochastic, entropy, REINFORCE.

B batch, T target time, S places. Xu et al. 2015, sections 4.1 and 4.2.1.
"""

from __future__ import annotations

import tensorflow as tf

LEAST = 1e-10  # the least probability, so that its logarithm is finite


def doubly_stochastic(weights, real):
    """Σ_i (1 - Σ_t α_ti)² of each row, [B]: 0 where every place gets a total weight of 1.

    Args:
        weights: α, float32 [B, T, S].
        real: float32 [B, T], 0 where the target is padding.

    >>> doubly_stochastic(tf.constant([[[0.5, 0.5], [1.0, 0.0]]]), tf.ones([1, 2])).numpy().tolist()
    [0.5]
    """
    total = tf.reduce_sum(weights * real[..., tf.newaxis], axis=1)
    return tf.reduce_sum(tf.square(1.0 - total), axis=1)


def entropy(weights, real):
    """Σ_t H(α_t) of each row, [B]; arguments as in `doubly_stochastic`."""
    nats = -tf.reduce_sum(weights * tf.math.log(tf.maximum(weights, LEAST)), axis=2)
    return tf.reduce_sum(nats * real, axis=1)


def reinforce(weights, place, real, reward):
    """-r Σ_t log α_t(s_t) of each row, [B]; its gradient is that of REINFORCE (Williams 1992).

    Args:
        weights, real: as in `doubly_stochastic`.
        place: s, one-hot float32 [B, T, S]; all zeros in a row that drew no place.
        reward: r, float32 [B], log p(y) minus the baseline; no gradient goes through it.
    """
    log_weight = tf.reduce_sum(place * tf.math.log(tf.maximum(weights, LEAST)), axis=2)
    return -tf.stop_gradient(reward) * tf.reduce_sum(log_weight * real, axis=1)
