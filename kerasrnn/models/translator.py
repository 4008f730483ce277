"""The translator: an encoder reads the source, a decoder writes the target (Bahdanau et al. 2014).

B batch, S source time, T target time, V vocabulary.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.layers import Decoder
from kerasrnn.models.search import Translates
from kerasrnn.models.writer import Writer
from kerasrnn.text.tokenizers import START, Tokenizer


@keras.saving.register_keras_serializable(package="kerasrnn")
class Translator(Translates, Writer):
    """Text in one language in, text in another out.

    Called on (source int32 [B, S], target int32 [B, T]), the target moved right, it gives logits
    float32 [B, T, V].

    Args:
        source_tokenizer, target_tokenizer: strings <-> ids; saved inside the model.
        encoder: a layer ids [B, S] -> `kerasrnn.layers.Encoded`.
        decoder: a `kerasrnn.layers.Decoder`.
        shared_embedding: the encoder uses the decoder's embedding; for one joint tokenizer.
        scheduled_sampling: share of the target's ids that the model's own guesses replace in
            training (Bengio et al. 2015, in two passes as in Mihaylova and Martins 2019).
    """

    # --- config ---

    parts = ("source_tokenizer", "target_tokenizer", "encoder", "decoder")
    former_options = (("sampling", "scheduled_sampling"),)
    options = ("shared_embedding", "scheduled_sampling", "seed")

    # --- layers ---

    def __init__(
        self,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        encoder: keras.layers.Layer,
        decoder: Decoder,
        *,
        shared_embedding: bool = False,
        scheduled_sampling: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        self.encoder, self.decoder = encoder, decoder
        self.shared_embedding, self.seed = shared_embedding, seed
        self.scheduled_sampling = scheduled_sampling
        self.seeds = keras.random.SeedGenerator(seed)
        self.build((None, None))

    @property
    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        return self.source_tokenizer, self.target_tokenizer

    def build(self, input_shape):
        if self.shared_embedding:
            self.decoder.embedding.build(input_shape)
            self.encoder.embedding = self.decoder.embedding
        self.encoder.build(input_shape)
        self.build_decoder()
        self.built = True

    # --- graph ---

    def call(self, inputs, training=None):
        """(source [B, S], target [B, T]) int32 -> logits float32 [B, T, V]."""
        source, target = inputs
        encoded = self.encoder(source, training=training)
        if training and self.scheduled_sampling:
            target = self._sampled(target, encoded)
        return self.decoder(target, encoded, training=training)

    def _sampled(self, target, encoded):
        """The target with some ids replaced by the likeliest ones after what stands before."""
        guessed = ops.cast(ops.argmax(self.decoder(target, encoded, training=False), -1), "int32")
        guessed = ops.concatenate([target[:, :1], guessed[:, :-1]], axis=1)
        number = keras.random.uniform(ops.shape(target), seed=self.seeds)
        replaced = (number < self.scheduled_sampling) & (target != 0) & (target != START)
        return ops.where(replaced, tf.stop_gradient(guessed), target)
