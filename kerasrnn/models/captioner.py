"""The captioner: a CNN looks, a recurrent decoder tells (Vinyals et al. 2014, Xu et al. 2015).

B batch, T target time, V vocabulary, N best, G places on a side of the grid, L = G² places.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from kerasrnn.attention.losses import doubly_stochastic, entropy, reinforce
from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.layers import Decoder
from kerasrnn.layers.images import ImageEncoder
from kerasrnn.losses.tokens import per_token
from kerasrnn.models.search import with_end
from kerasrnn.models.serving.served import Served, forget_served, served_function
from kerasrnn.models.writer import Writer
from kerasrnn.text.tokenizers import PAD, START, UNKNOWN, Tokenizer

LONGEST = 40  # tokens of a caption, at most, as the settings of training have it
DECAY = 0.9  # of the baseline's moving average


class Captions(NamedTuple):
    """What a captioner gives for B images, best first.

    Attributes:
        text: string [B, N].
        score: float32 [B, N], log p, normalised as the rules say.
        tokens: int32 [B, N, T], pads behind the end.
        target_tokens: string [B, T], of the best one, "" behind the end.
        attention: float32 [B, T, G, G], of the best one, rows from the top. Zeros where the
            decoder has none.
    """

    text: tf.Tensor
    score: tf.Tensor
    tokens: tf.Tensor
    target_tokens: tf.Tensor
    attention: tf.Tensor


@keras.saving.register_keras_serializable(package="kerasrnn")
class Captioner(Writer):
    """Images in, sentences out.

    Called on (image, target int32 [B, T]), the target moved right, it gives logits float32
    [B, T, V]. An image is uint8 [B, h, w, 3] of any size, or the encoder's features
    [B, L, C], computed before.

    Args:
        tokenizer: strings <-> ids; saved inside the model.
        encoder: an `ImageEncoder`.
        decoder: a `Decoder`: "first_input" is Show and Tell, "gated" Show, Attend and Tell with
            soft attention, "hard" with hard attention.
        coverage_weight: λ of the doubly stochastic penalty, beside each caption's -log p.
        reinforce_weight: λ_r of REINFORCE, for hard attention; its baseline is the moving average
            of log p.
        entropy_weight: λ_e of the entropy of the places drawn, for hard attention.
    """

    # --- config ---

    parts = ("tokenizer", "encoder", "decoder")
    options = ("coverage_weight", "reinforce_weight", "entropy_weight")
    former_options = (
        ("balance", "coverage_weight"),
        ("reward", "reinforce_weight"),
        ("curiosity", "entropy_weight"),
    )

    # --- layers ---

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: ImageEncoder,
        decoder: Decoder,
        *,
        coverage_weight: float = 1.0,
        reinforce_weight: float = 1.0,
        entropy_weight: float = 0.01,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokenizer, self.encoder, self.decoder = tokenizer, encoder, decoder
        self.coverage_weight = coverage_weight
        self.reinforce_weight, self.entropy_weight = reinforce_weight, entropy_weight
        self.build(None)

    @property
    def drawn(self) -> bool:
        """Whether hard attention draws its places when it describes, too; may be set. Otherwise
        it looks at the likeliest, which is what an export does."""
        return getattr(self.decoder.stack[0].cell, "drawn", False)

    @drawn.setter
    def drawn(self, drawn: bool):
        if self.decoder.options["conditioning"] != "hard":
            received = self.decoder.options["conditioning"]
            raise InputError("drawn", "hard attention", received, "train with conditioning=hard")
        self.decoder.stack[0].cell.drawn = drawn
        forget_served(self)

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Ids that a search must not write."""
        return PAD, START, UNKNOWN

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.build_decoder()
        self.baseline = self.add_weight(
            (), initializer="zeros", trainable=False, aggregation="mean", name="baseline"
        )
        self.built = True

    # --- graph ---

    def call(self, inputs, training=None):
        """(image, target [B, T] int32) -> logits float32 [B, T, V]."""
        image, target = inputs
        real = None
        if training and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            # Rows of padding make the replicas' batches equal; they are no images.
            real = target[:, 0] != PAD
        encoded = self.encoder(image, real=real, training=training)
        logits, looked = self.decoder(target, encoded, training=training, return_attention=True)
        if training and self.attends:
            self.add_loss(self._attention_loss(target, logits, looked))
        return logits

    def _attention_loss(self, target, logits, looked):
        """What attention adds to the cross-entropy, divided as that is."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        real = tf.cast(target != PAD, tf.float32)
        total = self.coverage_weight * doubly_stochastic(looked.weights, real)
        if looked.place is not None:
            after = with_end(target[:, 1:])
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(after, logits)
            log_p = -tf.reduce_sum(nats * real, axis=1)
            total += self.reinforce_weight * reinforce(
                looked.weights, looked.place, real, log_p - self.baseline
            )
            total -= self.entropy_weight * entropy(looked.weights, real)
            # The mean over the captions of all replicas; `aggregation="mean"` divides by replicas.
            now = tf.stop_gradient(replicas * per_token(tf.reduce_sum(log_p), real[:, 0]))
            self.baseline.assign(DECAY * self.baseline + (1.0 - DECAY) * now)
        # Keras takes the mean of what replicas add, the sum of their cross-entropies.
        return replicas * per_token(tf.reduce_sum(total), real)

    def caption_ids(self, image, rules: BeamRules, max_length):
        """Images [B, h, w, 3] -> (tokens, score, attention) of `Captions`; graph code."""
        step, state, _ = self.stepper(image, rules.beam)
        begin = tf.fill([tf.shape(image)[0]], START)
        found = beam_search(step, begin, state, max_length, rules=rules)
        G, shape = self.encoder.grid, tf.shape(found.ids)
        if found.attention is None:
            attention = tf.zeros([shape[0], shape[2], G, G])
        else:
            attention = tf.reshape(found.attention[:, 0], [shape[0], shape[2], G, G])
        return found.ids, found.scores, attention

    def served(
        self, rules: BeamRules | None = None, max_length: int = LONGEST, features: bool = False
    ) -> Served:
        """What is exported: a search with these rules, by default a beam of 3 that writes ids of
        text only; with `features` it takes the encoder's features."""
        from kerasrnn.models.serving.captioner import ServedCaptioner

        rules = rules or BeamRules(beam=3, banned=self.banned_ids)
        return ServedCaptioner(self, rules, max_length, features)

    def captions(
        self, images, *, rules: BeamRules | None = None, max_length: int = LONGEST
    ) -> Captions:
        """Caption images, with all there is to know about it, as NumPy arrays.

        Args:
            images: uint8 [B, h, w, 3], of one size; or features [B, L, C].
            rules: of the search; a beam of 3 by default. Ids that are no text are banned.
            max_length: the most tokens of a caption.

        Raises:
            InputError: when an argument is out of its range.
        """
        images = tf.convert_to_tensor(images)
        is_features = images.shape.rank == 3 and images.dtype.is_floating
        if not is_features and (images.shape.rank != 4 or images.dtype != tf.uint8):
            received = f"{images.dtype.name} {images.shape}"
            raise InputError("images", "uint8 [B, h, w, 3]", received, "put one image in brackets")
        if 0 in images.shape:
            expected, received = "an image or more, of a pixel or more", str(images.shape)
            raise InputError("images", expected, received, "leave out what is empty")
        asked = {"rules": rules, "max_length": max_length, "features": is_features}
        found = served_function(self, **asked)(images)
        return Captions(**{name: value.numpy() for name, value in found.items()})

    def caption(self, images, **options) -> list[str]:
        """The best caption of each image; options as `captions`."""
        return [text[0].decode() for text in self.captions(images, **options).text]
