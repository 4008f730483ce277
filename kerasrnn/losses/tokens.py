"""The training loss of token models: cross-entropy per token. B batch, T time, V vocabulary."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerasrnn.base.errors import InputError


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def smoothed_cross_entropy(targets, logits, ε):
    """-(1 - ε) log p(y) - ε mean_v log p(v), [B, T], of targets y int [B, T], logits [B, T, V].

    It is one XLA kernel, which reads the logits fewer times than TensorFlow's operators do.
    """
    target_logits = tf.gather(logits, targets, batch_dims=2)
    mean = tf.reduce_mean(logits, axis=-1)
    # log p(v) = logits_v - logsumexp, and the two weights sum to 1.
    return tf.reduce_logsumexp(logits, axis=-1) - (1 - ε) * target_logits - ε * mean


@keras.saving.register_keras_serializable(package="kerasrnn")
class TokenCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of integer targets over the real tokens.

    The sum and the count run over the batches of all replicas, so the gradient depends neither on
    the padding nor on the way sentences are dealt to replicas. With label smoothing ε (Szegedy et
    al. 2016, section 7) the target distribution is 1 - ε at the true token plus ε / V at each of
    the V tokens.

    y_true int [B, T], 0 for padding; y_pred logits [B, T, V].

    Args:
        label_smoothing: ε, from 0 to below 1.

    Raises:
        InputError: when `label_smoothing` is out of its range.

    >>> loss = TokenCrossEntropy()
    >>> round(float(loss([[1, 0]], [[[0.0, 0.0], [5.0, 9.0]]])), 4)  # ln 2
    0.6931
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise InputError(
                "label_smoothing", "a share from 0 to below 1", label_smoothing, "use 0.1"
            )
        super().__init__(name=name, reduction="sum", **kwargs)
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true = tf.cast(y_true, tf.int32)
        real = tf.cast(y_true != 0, tf.float32)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, tf.float32)
            real *= weight[:, tf.newaxis] if weight.shape.rank == 1 else weight
        return per_token(tf.reduce_sum(real * self.call(y_true, y_pred)), real)

    def call(self, y_true, y_pred):
        """The loss of each token, float32 [B, T], padding included."""
        return smoothed_cross_entropy(y_true, tf.cast(y_pred, tf.float32), self.label_smoothing)

    def get_config(self):
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def per_token(total, real):
    """This replica's part of a mean loss: its sum over the number of real tokens of all replicas.

    Args:
        total: the sum of the loss over this replica's batch.
        real: float32 [B, T], the weight of each token of this batch, 0 for padding.
    """
    count = tf.reduce_sum(real)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        count = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.math.divide_no_nan(total, tf.stop_gradient(count))
