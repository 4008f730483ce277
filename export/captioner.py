"""The inputs and outputs of an exported captioner, and the cases that check it."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export.graphs.checks import refuse_empty
from kerasrnn.export.graphs.onnx_file import join_models
from kerasrnn.export.graphs.text import target_graph
from kerasrnn.export.runner import decode_strings
from kerasrnn.layers.images import resize
from kerasrnn.models.captioner import LONGEST

CHANNELS = 3
EMPTY = "image: expected an image or more, of a pixel or more"


class Served:
    """A captioner in the form that is exported, with a fixed search: images in, strings out.

    Args:
        model: a `Captioner`.
        rules: rules of the search; by default a beam of 3 that writes ids of text only.
        max_length: largest number of tokens in a caption.
    """

    task = "captioner"
    signature = (tf.TensorSpec([None, None, None, CHANNELS], tf.uint8, "image"),)
    outputs = ("text", "score", "tokens", "target_tokens", "attention")
    core_signature, core_outputs = signature, ("tokens", "score", "attention")

    def __init__(self, model, rules: BeamRules | None = None, max_length: int = LONGEST):
        if model.drawn:
            expected = "false: an export looks at the likeliest place"
            raise InputError("drawn", expected, "true", "set it to false")
        self.model, self.max_length = model, max_length
        self.rules = rules or BeamRules(beam=3, banned=model.banned_ids)
        self.tokenizers = [model.tokenizer]

    @property
    def signatures(self) -> dict:
        """Signatures by name: `image` takes pixels, `bytes` takes JPEG or PNG files of any size."""
        encoded = (tf.TensorSpec([None], tf.string, "bytes"),)
        image = (self.serve, self.signature)
        return {
            "serving_default": image,
            "image": image,
            "bytes": (self.serve_bytes, encoded),
        }

    def core(self, image):
        """Pixels in, ids out: the part that tf2onnx converts."""
        return self.model.caption_ids(image, self.rules, self.max_length)

    def serve(self, image):
        """Pixels in, strings out."""
        tf.debugging.assert_positive(tf.shape(image), EMPTY)
        return tuple(self.model.caption_graph(image, self.rules, self.max_length))

    def serve_bytes(self, encoded):
        """Encoded images in, strings out."""
        size = self.model.encoder.image_size
        # Images of different sizes form a batch only after they are resized.
        spec = tf.TensorSpec([size, size, CHANNELS], tf.float32)
        pixels = tf.map_fn(lambda b: self._pixels(b, size), encoded, fn_output_signature=spec)
        return self.serve(tf.cast(pixels, tf.uint8))

    @staticmethod
    def _pixels(encoded, size):
        """The pixels of an encoded image, resized to the model's size."""
        image = tf.io.decode_image(encoded, CHANNELS, expand_animations=False)
        image.set_shape([None, None, CHANNELS])
        return resize(image[tf.newaxis], size)[0]

    def with_text(self, core):
        """The ONNX model of `core` followed by the detokenizer."""
        parts = {"": core, "detokenize/": target_graph(self.model.tokenizer, False)}
        return refuse_empty(join_models(parts, self.outputs), "image", EMPTY)

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Images to check an artifact with.

        They are smaller, larger and longer than the model's own size, one and several at a time, of
        noise and of one colour. All are pixels; some are also encoded.
        """
        random, size = np.random.default_rng(0), self.model.encoder.image_size
        shapes = [(4, size, size), (1, 3 * size, 2 * size + 1), (2, size // 2, size - 1)]
        shapes += [(1, 1, 1), (1, 2, 5 * size)]
        batches = [random.integers(0, 256, (*s, CHANNELS), np.uint8) for s in shapes]
        batches.append(np.full((2, size + 7, size, CHANNELS), [[[[255, 0, 30]]]], np.uint8))
        files = [_png(image) for batch in (batches[1], batches[2]) for image in batch]
        return [*({"image": batch} for batch in batches), {"bytes": np.array(files, object)}]

    def answer(self, case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer of the Keras model to a case."""
        images = case.get("image")
        if images is None:
            pixels = [
                self._pixels(b, self.model.encoder.image_size) for b in case["bytes"].tolist()
            ]
            images = tf.cast(tf.stack(pixels), tf.uint8)
        captions = self.model.captions(images, rules=self.rules, max_length=self.max_length)
        return {name: decode_strings(value) for name, value in captions._asdict().items()}


def _png(image: np.ndarray) -> bytes:
    """A PNG file of the image, as bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
