"""Makes Keras 3's `fit` right on several workers and replicas (keras issue 20585)."""

from __future__ import annotations

import keras
import tensorflow as tf

from kerasrnn.compat.private import KERAS, Private
from kerasrnn.compat.tensorflow import in_multi_worker_mode

PRIVATE = (
    Private(
        "keras.src.backend.tensorflow.trainer.TensorFlowTrainer._maybe_symbolic_build",
        "It takes the mean of a batch over all workers, which MultiWorkerMirroredStrategy refuses "
        "for integers and for batches of different shapes.",
        KERAS,
        "the tests of tests/test_distribution_multi_worker.py pass without the override",
    ),
    Private(
        "keras.optimizers.Optimizer._clip_gradients",
        "Optimizers clip each replica's own gradients, not their sum: the same global batch gives "
        "another step on two replicas than on one. Keras 2 summed first.",
        KERAS,
        "Keras sums over replicas before it clips",
    ),
    Private(
        "keras.src.backend.tensorflow.optimizer.TFOptimizer._all_reduce_sum_gradients",
        "The gradients are summed already, see _clip_gradients.",
        KERAS,
        "as for _clip_gradients",
    ),
)


class MultiWorkerSteps:
    """A mixin for a model: Keras's training and test steps, fit for several workers."""

    def train_step(self, data):
        return self._with_an_axis(super().train_step(data))

    def test_step(self, data):
        return self._with_an_axis(super().test_step(data))

    def _with_an_axis(self, logs):
        """Metrics as [1] in place of scalars: Keras takes their mean over workers on axis 0."""
        if not in_multi_worker_mode(self.distribute_strategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        strategy = self.distribute_strategy
        if iterator is not None and in_multi_worker_mode(strategy):
            # One replica's batch of one worker is enough to build the model.
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda value: strategy.experimental_local_results(value)[0], next(batches)
            )
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)


class SumsBeforeClipping:
    """A mixin for an optimizer: sum gradients over replicas first, then clip the sum."""

    def _clip_gradients(self, grads):
        replica = tf.distribute.get_replica_context()
        gradients = [g for g in grads if g is not None]
        sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients))
        return super()._clip_gradients([None if g is None else next(sums) for g in grads])

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # `_clip_gradients` has summed them
