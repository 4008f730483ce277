"""How a captioner is served: images in, strings out."""

from __future__ import annotations

import functools
import io

import numpy as np
import PIL.Image
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.kinds import Attention, Ids, Image, Number, Pieces, Place, Series, Text
from kerasrnn.layers.images import resize
from kerasrnn.models.serving.language_model import text_of
from kerasrnn.models.serving.scoring import Scoring, cost_of_sentences
from kerasrnn.models.serving.stream import EncoderDecoderStream
from kerasrnn.models.serving.translator import Searches
from kerasrnn.text.parts import DetokenizeBest, Tokenize
from kerasrnn.text.tokenizers import START

CHANNELS = 3


class ServedCaptioner(Searches):
    """A `Captioner`: pixels, or files of pictures, in; strings out.

    Args:
        features: whether it takes features float32 [B, L, C], computed before.
    """

    task, title = "captioner", "Caption a picture"
    gives = (
        Place("text", Text(), many=True),
        Place("score", Number(), many=True),
        Place("tokens", Ids(), many=True),
        Place("target_tokens", Pieces()),
        Place("attention", Attention("image")),
    )
    core_outputs = ("tokens", "score", "attention")

    def __init__(self, model, rules, max_length, features: bool = False):
        super().__init__(model, rules, max_length)
        kind = Series(model.encoder.values_size) if features else Image(model.encoder.image_size)
        self.takes = (Place("image", kind, "Picture"),)
        self.behind = [DetokenizeBest(model.tokenizer)]

    def check(self):
        if self.model.drawn:
            expected = "false: an export looks at the likeliest place"
            raise InputError("drawn", expected, "true", "set it to false")

    @property
    def signatures(self):
        """`image` takes pixels, `bytes` takes JPEG or PNG files of any size."""
        encoded = (tf.TensorSpec([None], tf.string, "bytes"),)
        signatures = super().signatures
        image = signatures["serving_default"]
        return {**signatures, "image": image, "bytes": (self.serve_bytes, encoded)}

    def core(self, image):
        return self.model.caption_ids(image, self.rules, self.max_length)

    def serve_bytes(self, encoded):
        """Encoded images in, strings out."""
        size = self.model.encoder.image_size
        # Images of different sizes form a batch only after they are resized.
        spec = tf.TensorSpec([size, size, CHANNELS], tf.float32)
        pixels = tf.map_fn(lambda b: _pixels(b, size), encoded, fn_output_signature=spec)
        return self.serve(tf.cast(pixels, tf.uint8))

    def cases(self):
        """Pixels, and some of them encoded."""
        cases = super().cases()
        files = [_png(image) for case in (cases[0], cases[2]) for image in case["image"]]
        return [*cases, {"bytes": np.array(files, object)}]

    @functools.cached_property
    def stream(self):
        return CaptionerStream(self.greedy())

    @functools.cached_property
    def scoring(self):
        return CaptionerScoring(self)


class CaptionerScoring(Scoring):
    """What a caption costs."""

    def __init__(self, served):
        super().__init__(served)
        tokenizer = self.model.tokenizer
        self.takes = (*served.takes, Place("target", text_of(tokenizer)))
        self.before = [Tokenize(tokenizer, "target", "target_ids")]

    def core(self, image, target_ids):
        return cost_of_sentences(self.model, image, target_ids)


class CaptionerStream(EncoderDecoderStream):
    """A captioner, with attention as a grid [B, G, G]."""

    def read(self, inputs):
        return inputs, tf.fill([tf.shape(inputs)[0], 1], START), {}

    def advance(self, fed):
        outputs, G = super().advance(fed), self.model.encoder.grid
        if "attention" in outputs:
            outputs["attention"] = tf.reshape(outputs["attention"], [-1, G, G])
        return outputs


def _pixels(encoded, size: int):
    """The pixels of an encoded image, resized."""
    image = tf.io.decode_image(encoded, CHANNELS, expand_animations=False)
    image.set_shape([None, None, CHANNELS])
    return resize(image[tf.newaxis], size)[0]


def _png(image: np.ndarray) -> bytes:
    """A PNG file of the image, as bytes."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
