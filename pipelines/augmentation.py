"""Changes images at random in training, by stages: functions from dataset to dataset.

B batch, S side. Elements are (place, ((image, …), …)), as `captions.batches` makes them for its
`augment`. Only `image`, uint8 [B, S, S, 3], is changed. `place`, int32 [3], is the epoch, the
batch, and the row of the global batch that is the first row here. The random numbers depend only on
the seed, the stage and the place. So a run can be repeated, an interruption changes nothing, and
the number of workers does not matter. Rows of zeros stay zeros.

    augment=lambda dataset: coloured(cropped(flipped(dataset, seed), seed), seed)
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerasrnn.base.errors import InputError

FLIP, CROP, COLOUR = range(3)  # part of the random key: each stage draws other numbers


def _changed(dataset: tf.data.Dataset, change: Callable, seed: int, stage: int, count: int):
    """The dataset with `change(image, chances)` on each image; chances float32 [B, count]."""
    image = dataset.element_spec[1][0][0]
    if image.dtype != tf.uint8 or image.shape.rank != 4 or image.shape[-1] != 3:
        expected, received = "images uint8 [B, S, S, 3]", f"{image.dtype.name} {image.shape}"
        raise InputError("augment", expected, received, "change pixels, not features")

    def on_batch(place, batch):
        (image, *inputs), target = batch
        key = tf.constant([seed, stage], tf.int64)
        key = tf.random.fold_in(tf.random.fold_in(key, place[0]), place[1])
        # Draw for all rows of the global batch up to here, and keep the last: then a row's numbers
        # do not depend on the number of workers.
        shape = [place[2] + tf.shape(image)[0], count]
        chances = tf.random.stateless_uniform(shape, key, alg="philox")[place[2] :]
        return place, ((change(image, chances), *inputs), target)

    return dataset.map(on_batch, num_parallel_calls=2)


def _pixels(values: tf.Tensor) -> tf.Tensor:
    """Round float values to pixels, uint8."""
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)


def flipped(dataset: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Flip half of the images left to right; captions stay as they are.

    >>> import numpy as np
    >>> image = np.uint8([4, 5, 6, 7, 8]).reshape(1, 1, 5, 1).repeat(4, 0).repeat(3, 3)
    >>> dataset = tf.data.Dataset.from_tensors(([0, 0, 0], ((image, "ids"), "ids")))
    >>> for place, ((image, target_in), target_out) in flipped(dataset, seed=1):
    ...     print(image[:, 0, :, 0].numpy().tolist())
    [[8, 7, 6, 5, 4], [8, 7, 6, 5, 4], [8, 7, 6, 5, 4], [4, 5, 6, 7, 8]]
    """

    def change(image, chances):
        return tf.where(chances[:, :, None, None] < 0.5, tf.reverse(image, [2]), image)

    return _changed(dataset, change, seed, FLIP, 1)


def cropped(dataset: tf.data.Dataset, seed: int, least: float = 0.8) -> tf.data.Dataset:
    """Crop a random box of each image and resize it to the image's size, bilinear.

    Args:
        least: smallest ratio of the box's side to the image's. The ratio is drawn between `least`
            and 1, and then the position of the box.

    >>> import numpy as np
    >>> image = np.uint8([40, 50, 60, 70, 80]).reshape(1, 1, 5, 1).repeat(5, 1).repeat(3, 3)
    >>> dataset = tf.data.Dataset.from_tensors(([0, 0, 0], ((image, "ids"), "ids")))
    >>> for place, ((image, target_in), target_out) in cropped(dataset, seed=1, least=0.5):
    ...     print(image[0, 0, :, 0].numpy().tolist())
    [44, 51, 58, 65, 71]

    Raises:
        InputError: when `least` is not above 0 and at most 1.
    """
    if not 0 < least <= 1:
        raise InputError("least", "a share above 0, at most 1", least, "use 0.8")

    def change(image, chances):
        side = least + (1 - least) * chances[:, :1]
        corner = (1 - side) * chances[:, 1:]
        # Top, left, bottom, right. A rounding error could put the edge outside, where it is black.
        boxes = tf.concat([corner, tf.minimum(corner + side, 1 - 1e-6)], axis=1)
        rows, size = tf.range(tf.shape(image)[0]), tf.shape(image)[1:3]
        return _pixels(tf.image.crop_and_resize(image, boxes, rows, size))

    return _changed(dataset, change, seed, CROP, 3)


def coloured(dataset: tf.data.Dataset, seed: int, most: float = 0.2) -> tf.data.Dataset:
    """Multiply brightness, contrast and saturation by random factors from 1 ± `most`.

    >>> import numpy as np
    >>> image = np.uint8([[[[40, 50, 60], [70, 80, 90], [100, 50, 0], [7, 7, 7], [0, 0, 0]]]])
    >>> dataset = tf.data.Dataset.from_tensors(([0, 0, 0], ((image, "ids"), "ids")))
    >>> for place, ((image, target_in), target_out) in coloured(dataset, seed=1, most=0.5):
    ...     print(image[0, 0].numpy().tolist())
    [[52, 58, 65], [85, 91, 98], [95, 64, 32], [12, 12, 12], [5, 5, 5]]

    Raises:
        InputError: when `most` is not from 0 to below 1.
    """
    if not 0 <= most < 1:
        raise InputError("most", "a share from 0 to below 1", most, "use 0.2")

    def change(image, chances):
        factors = 1 + most * (2 * chances - 1)
        bright, contrast, saturation = tf.unstack(factors[:, :, None, None, None], axis=1)
        pixels = tf.cast(image, tf.float32) * bright
        mean = tf.reduce_mean(tf.image.rgb_to_grayscale(pixels), axis=[1, 2], keepdims=True)
        pixels = mean + contrast * (pixels - mean)
        grey = tf.image.rgb_to_grayscale(pixels)
        return _pixels(grey + saturation * (pixels - grey))

    return _changed(dataset, change, seed, COLOUR, 3)
