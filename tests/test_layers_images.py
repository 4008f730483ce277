"""Image encoders: one resize for all runtimes, stages, preprocessing, weights from a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.layers.images import ImageEncoder, network_pixels, resize, stages

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 37, 50, 3)).astype("uint8")


def triangle(given: int, size: int) -> np.ndarray:
    """The weights of `given` pixels for each of `size`, one by one."""
    ratio, rows = given / size, np.zeros([size, given])
    for i in range(size):
        for j in range(given):
            distance = abs((i + 0.5) * ratio - (j + 0.5)) / max(ratio, 1.0)
            rows[i, j] = max(0.0, 1.0 - distance)
    return rows / rows.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [7, 37, 64])
def test_the_resize_by_hand(size):
    found = resize(tf.constant(IMAGES), size).numpy()
    rows, columns = triangle(37, size), triangle(50, size)
    wanted = np.einsum("ih,jw,bhwc->bijc", rows, columns, IMAGES.astype(float))
    assert found.shape == (2, size, size, 3) and (found == np.round(found)).all()
    assert np.abs(found - wanted).max() <= 0.5 + 5e-3  # between the products it has 256ths


@pytest.mark.parametrize("size", [16, 64])
def test_the_resize_is_tensorflows(size):
    wanted = tf.image.resize(IMAGES, [size, size], antialias=True)
    assert np.abs(resize(tf.constant(IMAGES), size) - wanted).max() <= 0.51


def test_a_picture_of_the_right_size_stays_as_it_is():
    image = IMAGES[:, :32, :32]
    found = tf.function(lambda x: resize(x, 32), input_signature=[tf.TensorSpec([None] * 4)])
    assert (found(tf.constant(image, tf.float32)).numpy() == image).all()


@pytest.mark.parametrize("size", [16, 64, 256])
def test_the_small_network_ends_in_a_grid_of_eight(size):
    encoder = ImageEncoder(image_size=size)
    encoded = encoder(tf.constant(IMAGES))
    assert encoder.grid == 8 and encoded.values.shape == (2, 64, encoder.values_size)
    assert encoded.mask.shape == (2, 64) and encoded.mask.numpy().all()
    np.testing.assert_allclose(encoded.summary, tf.reduce_mean(encoded.values, 1), atol=1e-6)


def test_features_are_taken_for_images():
    encoder = ImageEncoder(image_size=32)
    features = encoder.features(tf.constant(IMAGES))
    for a, b in zip(encoder(features), encoder(tf.constant(IMAGES)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "MobileNetV3Small"])
def test_preprocessing_is_the_networks_own(name):
    module = {
        "VGG16": keras.applications.vgg16,
        "ResNet50": keras.applications.resnet50,
        "MobileNetV3Small": keras.applications.mobilenet_v3,
    }[name]
    pixels = IMAGES.astype("float32")
    wanted = module.preprocess_input(pixels.copy())
    np.testing.assert_allclose(network_pixels(name, tf.constant(pixels)), wanted, atol=1e-4)


def test_vgg_ends_before_its_last_pooling_and_trains_its_last_stage():
    encoder = ImageEncoder("VGG16", image_size=32, trainable_stages=1)
    assert encoder.grid == 2 and encoder.values_size == 512
    names = {weight.path.split("/")[-2] for weight in encoder.trainable_weights}
    assert names == {"block5_conv1", "block5_conv2", "block5_conv3"}
    frozen = ImageEncoder("VGG16", image_size=32, trainable_stages=0)
    assert frozen.frozen and not frozen.trainable_weights
    assert len(ImageEncoder("VGG16", image_size=32).trainable_weights) == 26


def test_weights_from_a_file_and_statistics_that_stay(tmp_path):
    first = ImageEncoder("MobileNetV3Small", image_size=64, trainable_stages=2)
    first.network.save_weights(tmp_path / "m.weights.h5")
    made = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    made.save_weights(tmp_path / "top.weights.h5")
    again = ImageEncoder("MobileNetV3Small", 64, 2, weights=tmp_path / "top.weights.h5")
    for a, b in zip(again.network.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = [w.numpy() for w in again.non_trainable_weights]
    again(tf.constant(IMAGES), training=True)
    for a, b in zip(before, again.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(a, b)
    groups = stages(again.network)
    assert [group[0].output.shape[1] for group in groups] == [64, 32, 16, 8, 4, 2]
    trained = {layer for layer in again.network.layers if layer.trainable and layer.weights}
    assert trained <= {*groups[-1], *groups[-2]}


def test_statistics_follow_where_all_is_trained():
    encoder = ImageEncoder(image_size=16)
    before = [w.numpy() for w in encoder.non_trainable_weights]
    encoder(tf.constant(IMAGES), training=True)
    pairs = zip(before, encoder.non_trainable_weights, strict=True)
    assert all(np.abs(a - b).max() > 1e-6 for a, b in pairs)


def test_weights_that_cannot_be_read_for_no_said_reason(tmp_path, monkeypatch):
    def load_weights(self, path):
        raise OSError

    (tmp_path / "w.weights.h5").touch()
    monkeypatch.setattr(keras.Model, "load_weights", load_weights)
    with pytest.raises(InputError, match=r"of the small network, got OSError; give others"):
        ImageEncoder(weights=tmp_path / "w.weights.h5")


def refused(cases) -> None:
    """Each of the options is refused, in these words."""
    for options, text in cases:
        with pytest.raises(InputError) as error:
            ImageEncoder(**options)
        assert str(error.value).startswith(text), error.value


@pytest.fixture
def broken(tmp_path):
    """A file of weights that is none."""
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(b"nothing")
    return path


def test_what_is_refused(broken, tmp_path):
    size = "image_size: expected 16, 32, 64, 128 … for the small network, got 100"
    refused(
        [
            ({"backbone": "VGG17"}, "backbone: expected one of small, ConvNeXtBase"),
            ({"image_size": 100}, size),
            ({"image_size": 8}, "image_size: expected 16, 32"),
            ({"weights": "imagenet"}, "--cnn-weights: expected a file or none for the small net"),
            (
                {"backbone": "VGG16", "weights": tmp_path / "none.h5"},
                "--cnn-weights: expected a file, imagenet or none",
            ),
            ({"weights": broken}, "--cnn-weights: expected weights of the small network, got "),
        ]
    )


@pytest.mark.slow
def test_what_large_networks_refuse(broken):
    vgg16 = {"backbone": "VGG16", "image_size": 32, "weights": broken}
    inception = {"backbone": "InceptionV3", "image_size": 32}
    refused(
        [
            (vgg16, "backbone: expected VGG16 of size 32"),
            (inception, "backbone: expected InceptionV3 of size 32"),
        ]
    )
