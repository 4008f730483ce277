"""Encoders of an image: pixels in, one vector for each place of a grid out.

B batch, C features, G places on a side of the grid, L = G² places.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
from keras import layers, ops, tree

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.base.renamed import with_new_names
from kerasrnn.base.weights_files import check_weights
from kerasrnn.layers.encoders import Encoded
from kerasrnn.layers.normalization import count_real_rows, only_real_rows

SMALL = "small"
WHOLE = 2**16  # what stands for 1 in a filter; times 255, and rounded, it stays below 2^24
FORMER = {"network": "backbone", "size": "image_size", "trained": "trainable_stages"}
WIDTHS = (24, 48, 64, 96)  # of the small network's halvings; the last for any more


@keras.saving.register_keras_serializable(package="kerasrnn")
class Coordinates(layers.Layer):
    """Adds to every place where it is, x and y from -1 to 1 (CoordConv, Liu et al. 2018).

    >>> Coordinates()(ops.zeros((1, 3, 3, 1)))[0, 0, :, 1:].numpy().tolist()
    [[-1.0, -1.0], [0.0, -1.0], [1.0, -1.0]]
    """

    def call(self, grid):
        batch, height, width, _ = ops.shape(grid)
        y, x = ops.linspace(-1.0, 1.0, height), ops.linspace(-1.0, 1.0, width)
        places = ops.stack(ops.meshgrid(x, y), axis=-1)
        places = ops.broadcast_to(ops.cast(places, grid.dtype), (batch, height, width, 2))
        return ops.concatenate([grid, places], axis=-1)


def small_network(size: int) -> keras.Model:
    """A network that trains from nothing: pixels from -1 to 1
    [B, size, size, 3] -> features [B, 8, 8, C].

    Convolutions that halve the picture until its sides are 8, one more that sees where it is;
    batch normalisation and ReLU after each.
    """
    x = pixels = keras.Input([size, size, 3])
    widths = [*WIDTHS, *[WIDTHS[-1]] * 4][: (size // 8).bit_length() - 1]
    for width in widths:
        x = _convolved(x, width, strides=2)
    return keras.Model(pixels, _convolved(Coordinates()(x), WIDTHS[-1]), name=SMALL)


def _convolved(x, width: int, strides: int = 1):
    x = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(synchronized=True)(x))


def application(name: str, size: int, weights: str | Path | None) -> keras.Model:
    """A network of `keras.applications` without its top and without a last pooling.

    Args:
        name: as in `keras.applications`, e.g. "VGG16".
        size: of a side of its images.
        weights: a file that the network can load, "imagenet", which Keras downloads where it has
            not yet, or None for random ones.

    Raises:
        InputError: when there is no such network, or it has no such size or weights.
    """
    shape, weights, constructor = (size, size, 3), _file(weights), _constructor(name)
    try:
        made = constructor(include_top=False, weights=weights, input_shape=shape)
    except Exception as error:  # what Keras raises for a size, a file or a download differs
        expected = f"{name} of size {size} with weights {weights}"
        raise InputError("backbone", expected, first_line(error), "change one of them") from error
    last = made.layers[-1]
    features = last.input if isinstance(last, layers.MaxPooling2D) else made.output
    return keras.Model(made.input, features, name=name.lower())


def check_network(name: str, size: int, weights: str | Path | None) -> None:
    """Refuse what no network needs to be made for to see it (InputError); as in `ImageEncoder`."""
    if name != SMALL:
        _constructor(name)
    elif size < 16 or size & (size - 1):
        raise InputError("image_size", "16, 32, 64, 128 … for the small network", size, "change it")
    elif weights == "imagenet":
        expected = "a file or none for the small network"
        raise InputError("--cnn-weights", expected, weights, "leave it out")
    _file(weights)


def _constructor(name: str):
    constructor = getattr(keras.applications, name, None)
    if not callable(constructor):
        known = ", ".join([SMALL, *sorted(n for n in dir(keras.applications) if n[0].isupper())])
        raise InputError("backbone", f"one of {known}", name, "choose one of them")
    return constructor


def network_pixels(name: str, images):
    """Pixels from 0 to 255 as the network of this name was trained on them."""
    if name == SMALL:
        return images / 127.5 - 1.0
    return sys.modules[_constructor(name).__module__].preprocess_input(images)


def _file(weights):
    if weights in (None, "imagenet"):
        return weights
    if not Path(weights).is_file():
        raise InputError("--cnn-weights", "a file, imagenet or none", weights, "check the path")
    check_weights(Path(weights), "--cnn-weights")
    return str(weights)


def resize(images, size: int):
    """Pixels of any size [B, h, w, 3] -> float32 [B, size, size, 3], whole numbers 0 to 255.

    Bilinear, with the filter widened where the picture shrinks (antialiasing): weights
    max(0, 1 - |x - x'| / s), s the shrinkage but at least 1, x and x' centres of pixels. Every sum
    on the way is of whole numbers and below 2^24, which float32 holds exactly: the order in which
    a runtime adds does not matter, and all give the same.

    >>> black_and_white = ops.convert_to_tensor([[[[0.0] * 3, [255.0] * 3]] * 2])
    >>> resize(black_and_white, 1)[0, 0, 0].numpy().tolist()
    [128.0, 128.0, 128.0]
    """
    images = ops.cast(images, "float32")
    shape = ops.shape(images)
    if images.shape[1] == size and images.shape[2] == size:
        return images
    rows, columns = _filter(shape[1], size), _filter(shape[2], size)
    width, batch = shape[2], shape[0]
    x = ops.matmul(rows, ops.reshape(images, (batch, shape[1], width * 3)))
    x = ops.reshape(ops.floor((x + 128.0) / 256.0), (batch * size, width, 3))  # in 256ths
    high = ops.floor(x / 256.0)  # one product of 16 bits by 16 bits would pass 2^24
    low = ops.floor(ops.matmul(columns, x - 256.0 * high) / 256.0)
    x = ops.floor((ops.matmul(columns, high) + low + WHOLE / 2) / WHOLE)
    return ops.reshape(x, (batch, size, size, 3))


def _filter(given, size: int):
    """The weights of `given` pixels for each of `size`, float32 [size, given].

    They are whole numbers; `WHOLE`, which stands for 1, is the sum of each row.
    """
    given, size = ops.cast(given, "int64"), ops.cast(size, "int64")
    wanted = (2 * ops.cast(ops.arange(size), "int64") + 1)[:, None] * given
    there = (2 * ops.cast(ops.arange(given), "int64") + 1)[None] * size
    weights = ops.maximum(2 * ops.maximum(given, size) - ops.abs(wanted - there), 0)
    up_to = ops.cumsum(weights, axis=1)
    # Sums are rounded, and not weights, so that nothing of 1 is lost.
    up_to = ops.pad(up_to * WHOLE // up_to[:, -1:], [[0, 0], [1, 0]])
    return ops.cast(up_to[:, 1:] - up_to[:, :-1], "float32")


def stages(network: keras.Model) -> list[list]:
    """The layers in groups, one for each halving of the picture, the first first.

    >>> [len(group) for group in stages(small_network(32))]
    [1, 3, 7]
    """
    halved, groups = {}, {}
    for operation in network.operations:
        given = (halved.get(id(tensor), 1) for tensor in tree.flatten(operation.input))
        times = max(given, default=1) * getattr(operation, "strides", (1,))[0]
        halved.update({id(tensor): times for tensor in tree.flatten(operation.output)})
        if isinstance(operation, layers.Layer):
            groups.setdefault(times, []).append(operation)
    return [groups[times] for times in sorted(groups)]


@keras.saving.register_keras_serializable(package="kerasrnn")
class ImageEncoder(layers.Layer):
    """Images uint8 [B, h, w, 3] of any size -> `Encoded`: values [B, L, C], their mean [B, C].

    It takes features [B, L, C] too, as `features` gives them, and passes them on. With
    `real`, bool [B], batch normalisation takes its statistics from those rows of all replicas.

    Args:
        backbone: "small", which trains from nothing, or a name in `keras.applications`.
        image_size: of a side of the square to which images are brought.
        trainable_stages: how many of the network's last stages are trained, -1 for all. A stage
            is all layers between two halvings of the picture. Where some are frozen, batch
            normalisation keeps its statistics.
        weights: as in `application`; not kept in the configuration, a saved model has its own.

    Raises:
        InputError: when the network, its size or its weights cannot be had.
    """

    def __init__(
        self,
        backbone: str = SMALL,
        image_size: int = 64,
        trainable_stages: int = -1,
        weights: str | Path | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.options = {
            "backbone": backbone,
            "image_size": image_size,
            "trainable_stages": trainable_stages,
        }
        self.image_size, self.frozen = image_size, trainable_stages == 0
        self.follows_statistics = trainable_stages < 0
        if backbone == SMALL:
            self.network = _small(image_size, weights)
        else:
            self.network = application(backbone, image_size, weights)
        count_real_rows(self.network)
        groups = stages(self.network)
        frozen = 0 if trainable_stages < 0 else max(len(groups) - trainable_stages, 0)
        for group in groups[:frozen]:
            for layer in group:
                layer.trainable = False
        self.grid = self.network.output.shape[1]
        self.values_size = self.summary_size = self.network.output.shape[-1]

    def build(self, images_shape):
        """The network is built as it is made."""

    def call(self, images, real=None, training=None):
        if len(images.shape) == 3:
            values = images
        else:
            with only_real_rows(real):
                values = self.features(images, training=training)
        values = ops.cast(values, self.compute_dtype)
        mask = ops.ones(ops.shape(values)[:2], dtype="bool")
        return Encoded(values, mask, ops.mean(values, axis=1))

    def features(self, images, training=False):
        """Images [B, h, w, 3] -> features [B, L, C], L row by row."""
        training = training and self.follows_statistics
        images = network_pixels(self.options["backbone"], resize(images, self.image_size))
        grid = self.network(images, training=training)
        return ops.reshape(grid, (-1, self.grid**2, self.values_size))

    def get_config(self):
        return {**super().get_config(), **self.options}

    @classmethod
    def from_config(cls, config):
        return cls(**with_new_names(config, FORMER))


def _small(size: int, weights) -> keras.Model:
    check_network(SMALL, size, weights)
    network = small_network(size)
    if weights is not None:
        file = _file(weights)
        try:
            network.load_weights(file)
        except (ValueError, OSError) as error:
            expected, received = "weights of the small network", first_line(error)
            raise InputError("--cnn-weights", expected, received, "give others") from error
    return network
