"""Batches of arrays in memory, from where training stands."""

import numpy as np
import tensorflow as tf

from kerasrnn.pipelines.dataset import dataset_from_generator
from kerasrnn.tasks.training import Data


def batches(arrays, size, order, first=0, shard=(0, 1)) -> tf.data.Dataset:
    """Batches (x, y) of the rows in this order, from batch `first` on."""
    index, count = shard
    *inputs, y = arrays
    specs = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays]
    signature = (specs[0] if len(inputs) == 1 else tuple(specs[:-1]), specs[-1])

    def generate():
        for start in range(first * size, len(order()), size):
            part = order()[start : start + size][index::count]
            x = [a[part] for a in inputs]
            yield (x[0] if len(x) == 1 else tuple(x)), y[part]

    return dataset_from_generator(generate, -(-len(order()) // size) - first, signature)


def data_of(arrays, held, size, seed=None) -> Data:
    """The first `held` rows validate; the others train, shuffled where there is a seed."""
    count = len(arrays[-1]) - held
    train, valid = [a[held:] for a in arrays], [a[:held] for a in arrays]

    def at(position, shard):
        def order():
            random = np.random.default_rng([seed or 0, position.epoch])
            return np.arange(count) if seed is None else random.permutation(count)

        return batches(train, size, order, position.batch, shard)

    def valid_at(shard):
        return batches(valid, held if seed is None else size, lambda: np.arange(held), 0, shard)

    return Data(at, valid_at, -(-count // size), size)
