"""The translator: an encoder reads the source, a decoder writes the target (Bahdanau et al. 2014).

B batch, S source time, T target time, V vocabulary, N best.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.beam import BeamRules, beam_search
from kerasrnn.decoding import Decoded, most_attended, repeated
from kerasrnn.errors import InputError
from kerasrnn.layers import Decoder
from kerasrnn.metrics import Nats, Perplexity
from kerasrnn.text import END, PAD, START, UNKNOWN, Tokenizer
from kerasrnn.training import TokenCrossEntropy

ENDED = "</s>"  # how the end of a source is shown
PARTS = ("source_tokenizer", "target_tokenizer", "encoder", "decoder")
# model -> {(rules, max_length): its compiled `translate_graph`}
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Translations(NamedTuple):
    """What a translator gives for B sources, best first.

    Attributes:
        text: string [B, N].
        score: float32 [B, N], log p, normalised as the rules say.
        tokens: int32 [B, N, T], pads behind the end.
        target_tokens: string [B, T], of the best one, "" behind the end.
        source_tokens: string [B, S], "</s>" behind the last, then "".
        attention: float32 [B, T, S], of the best one; its sum over T is the coverage. Zeros
            where the decoder has none.
    """

    text: tf.Tensor
    score: tf.Tensor
    tokens: tf.Tensor
    target_tokens: tf.Tensor
    source_tokens: tf.Tensor
    attention: tf.Tensor


class Written(NamedTuple):
    """`Translations` in ids, before there is text.

    Attributes:
        tokens, score, attention: as in `Translations`.
        copied: int32 [B, N, T], the source position most attended to.
        source_ids: int32 [B, S], with the end ids.
    """

    tokens: tf.Tensor
    score: tf.Tensor
    attention: tf.Tensor
    copied: tf.Tensor
    source_ids: tf.Tensor


def with_end(ids):
    """Ids int32 [B, S], padded behind -> [B, S + 1], the end id behind each row."""
    ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=PAD)
    lengths = tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=1, keepdims=True)
    place = tf.range(tf.shape(ids)[1])[tf.newaxis]
    return tf.where(place == lengths, END, ids)


@keras.saving.register_keras_serializable(package="kerasrnn")
class Translator(keras.Model):
    """Text in one language in, text in another out.

    Called on (source int32 [B, S], target int32 [B, T]), the target moved right, it gives logits
    float32 [B, T, V].

    Args:
        source_tokenizer, target_tokenizer: strings <-> ids; saved inside the model.
        encoder: a layer ids [B, S] -> `kerasrnn.layers.Encoded`.
        decoder: a `kerasrnn.layers.Decoder`.
        shared_embedding: the encoder uses the decoder's embedding; for one joint tokenizer.
        sampling: share of the target's ids that are replaced by what the model itself would
            have written, while training (scheduled sampling, Bengio et al. 2015, in two passes
            as in Mihaylova and Martins 2019).
    """

    # --- layers ---

    def __init__(
        self,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        encoder: keras.layers.Layer,
        decoder: Decoder,
        *,
        shared_embedding: bool = False,
        sampling: float = 0.0,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        self.encoder, self.decoder = encoder, decoder
        self.shared_embedding, self.sampling, self.seed = shared_embedding, sampling, seed
        self.seeds = keras.random.SeedGenerator(seed)
        self.build((None, None))

    @property
    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        return self.source_tokenizer, self.target_tokenizer

    @property
    def replaces_unknown(self) -> bool:
        """Whether an unknown target word becomes the source word most attended to."""
        return self.target_tokenizer.level == "word" and self.decoder.attends

    @property
    def never(self) -> tuple[int, ...]:
        """Ids that a search must not write."""
        return (PAD, START) if self.replaces_unknown else (PAD, START, UNKNOWN)

    def build(self, input_shape):
        if self.shared_embedding:
            self.decoder.embedding.build(input_shape)
            self.encoder.embedding = self.decoder.embedding
        self.encoder.build(input_shape)
        values, summary = self.encoder.values_size, self.encoder.summary_size
        self.decoder.build((None, None), ((None, None, values), (None, None), (None, summary)))
        self.built = True

    # --- graph ---

    def call(self, inputs, training=None):
        """(source [B, S], target [B, T]) int32 -> logits float32 [B, T, V]."""
        source, target = inputs
        encoded = self.encoder(source, training=training)
        if training and self.sampling:
            target = self._sampled(target, encoded)
        return self.decoder(target, encoded, training=training)

    def _sampled(self, target, encoded):
        """The target with some ids replaced by the likeliest ones after what stands before."""
        guessed = ops.cast(ops.argmax(self.decoder(target, encoded, training=False), -1), "int32")
        guessed = ops.concatenate([target[:, :1], guessed[:, :-1]], axis=1)
        number = keras.random.uniform(ops.shape(target), seed=self.seeds)
        replaced = (number < self.sampling) & (target != 0) & (target != START)
        return ops.where(replaced, tf.stop_gradient(guessed), target)

    def search(self, source, max_length, rules: BeamRules) -> Decoded:
        """Source ids int32 [B, S] with their end ids, padded behind -> the N best targets."""
        encoded = self.encoder(source, training=False)
        memory = repeated(self.decoder.memory(encoded), rules.beam)

        def step(ids, state):
            logits, state, weights = self.decoder.step(ids, state, memory)
            return (logits, state) if weights is None else (logits, state, weights)

        begin = tf.fill([tf.shape(source)[0]], START)
        empty = tf.reduce_all((source == PAD) | (source == END), axis=1)
        length = tf.where(empty, 0, max_length)
        state = self.decoder.start(encoded)
        return beam_search(step, begin, state, length, rules=rules, mask=encoded.mask)

    def translate_ids(self, ids, rules: BeamRules, max_length) -> Written:
        """Source ids int32 [B, S], padded behind -> `Written`; graph code."""
        ids = with_end(ids)
        found = self.search(ids, max_length, rules)
        attention = found.attention
        if attention is None:
            shape = tf.concat([tf.shape(found.ids), tf.shape(ids)[1:]], axis=0)
            attention = tf.zeros(shape)
        # Nothing is copied from the end of the source.
        words = tf.where((ids == END)[:, tf.newaxis, tf.newaxis], 0.0, attention)
        return Written(found.ids, found.scores, attention[:, 0], most_attended(words), ids)

    def translate_graph(self, source, rules: BeamRules, max_length) -> Translations:
        """Strings [B] -> `Translations`; graph code."""
        ids = self.source_tokenizer.tokenize(source).to_tensor(PAD)
        found = self.translate_ids(ids, rules, max_length)
        ends = tf.fill([tf.shape(ids)[0], 1], ENDED)
        words = tf.concat([self.source_tokenizer.split(source), ends], axis=1).to_tensor("")
        target, copied = self.target_tokenizer, None
        pieces = tf.gather(target.pieces, found.tokens[:, 0])
        if self.replaces_unknown:
            copied = tf.gather(words, found.copied, batch_dims=1)
            pieces = tf.where(found.tokens[:, 0] == UNKNOWN, copied[:, 0], pieces)
        text = target.detokenize(found.tokens, copied)
        return Translations(text, found.score, found.tokens, pieces, words, found.attention)

    def translations(
        self, sources: list[str], *, rules: BeamRules | None = None, max_length: int = 100
    ) -> Translations:
        """Translate sentences, with all there is to know about it, as NumPy arrays.

        Args:
            sources: strings, of any lengths; "" gives "".
            rules: of the search; a beam of 5 by default. Ids that are no text are banned.
            max_length: the most tokens of a target.

        Raises:
            InputError: when an argument is out of its range.
        """
        if isinstance(sources, str) or not all(isinstance(s, (str, bytes)) for s in sources):
            raise InputError("sources", "a list of strings", repr(sources), "put it in brackets")
        if max_length < 1:
            raise InputError("max_length", "1 or more", max_length, "raise it")
        function = self.graph_for(rules or BeamRules(banned=self.never), max_length)
        found = function(tf.constant(sources, tf.string))
        return Translations(*(x.numpy() for x in found))

    def translate(self, sources: list[str], **options) -> list[str]:
        """The best translation of each sentence; options as `translations`."""
        return [text[0].decode() for text in self.translations(sources, **options).text]

    def graph_for(self, rules: BeamRules, max_length: int):
        """`translate_graph` for these rules as a tf.function, made once."""
        functions = _COMPILED.setdefault(self, {})
        if (rules, max_length) not in functions:
            model = weakref.ref(self)

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
            def translate(source):
                return model().translate_graph(source, rules, max_length)

            functions[rules, max_length] = translate
        return functions[rules, max_length]

    # --- config ---

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """As Keras's, with defaults: Adam with gradients clipped to a global norm of 1, the
        cross-entropy of real tokens, and nats and perplexity per token as metrics."""
        if optimizer is None:
            optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
        loss = TokenCrossEntropy() if loss is None else loss
        metrics = [Nats(), Perplexity()] if metrics is None else metrics
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        config = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        for name in ("encoder", "decoder"):
            config[name].pop("build_config")  # it is built here, with the embedding that it shares
        options = ("shared_embedding", "sampling", "seed")
        config.update({name: getattr(self, name) for name in options})
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        made = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **made})
