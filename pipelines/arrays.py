"""Batches of arrays that lie in memory, from where training stands.

N examples, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kerasrnn.pipelines.dataset import dataset_from_generator


def array_batches(
    arrays: Sequence[np.ndarray],
    batch_size: int,
    order: Callable[[], np.ndarray],
    *,
    first: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches (inputs, target) of examples: the last array is the target, inputs come as a tuple
    where there are several.

    Args:
        arrays: each [N, ...].
        batch_size: B, of the global batch; the last one may be smaller.
        order: gives the numbers of the examples of an epoch, int [N] or fewer; called once a pass.
        first: the batch with which a pass begins.
        shard: (index, count) of this worker, which reads every `count`th example of a batch.

    >>> batches = array_batches([np.arange(5), np.arange(5) * 2], 2, lambda: np.arange(5), first=1)
    >>> [(x.tolist(), y.tolist()) for x, y in batches.as_numpy_iterator()]
    [([2, 3], [4, 6]), ([4], [8])]
    """
    index, count = shard
    *inputs, target = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays]
    one = len(inputs) == 1

    def generate():
        numbers = order()
        for start in range(first * batch_size, len(numbers), batch_size):
            part = numbers[start : start + batch_size][index::count]
            *x, y = (array[part] for array in arrays)
            yield (x[0] if one else tuple(x)), y

    signature = (inputs[0] if one else tuple(inputs), target)
    return dataset_from_generator(generate, -(-len(order()) // batch_size) - first, signature)
