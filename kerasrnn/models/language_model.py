"""The language model: embedding -> recurrent stack -> logits (Mikolov et al. 2010).

B batch, T time, P prompt, E embedding, H units, V vocabulary.
"""

from __future__ import annotations

import math
import secrets

import keras
import tensorflow as tf

from kerasrnn.base.errors import InputError, check_texts
from kerasrnn.cells.choice import cell_name
from kerasrnn.decoding.sampling import Decoded, Sampling, sample, without
from kerasrnn.decoding.suggestions import begun_word, roles, suggest
from kerasrnn.layers.carry import CarriesState
from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity
from kerasrnn.models.serving.language_model import CHOICES, ServedLanguageModel
from kerasrnn.models.serving.served import served_function
from kerasrnn.models.text_model import TextModel
from kerasrnn.models.token_stack import TokenStack
from kerasrnn.text.tokenizers import PAD, START, UNKNOWN, Tokenizer


@keras.saving.register_keras_serializable(package="kerasrnn")
class LanguageModel(CarriesState, TokenStack, TextModel):
    """Predicts each token from those before it; text in, text out.

    Called on ids int32 [B, T] it gives logits [B, T, V]. In `fit` and `evaluate` the recurrent
    state is carried from batch to batch and reset at the beginning of each pass. Dropout masks
    are shared over time (Gal & Ghahramani 2016).

    Args:
        tokenizer: strings <-> ids; saved inside the model.
        cell: a name in `kerasrnn.cells.CELLS`, or a class.
        units: H.
        layers: depth of the stack.
        embedding: E, or "one-hot".
        dropout: share of inputs dropped before, between and after the layers.
        recurrent_dropout: share of the state dropped inside a layer.
        tied: use the embedding also as output weights (Press & Wolf 2017); needs E = H.
        carry_state: False for training data that is shuffled.

    Raises:
        InputError: when a name or a number is out of its range, or the vocabulary is trivial.

    >>> from kerasrnn.text.tokenizers import CharTokenizer
    >>> model = LanguageModel(CharTokenizer(["a", "b"]), units=8, layers=1, embedding=4)
    >>> model(tf.constant([[2, 4, 5]])).shape
    TensorShape([1, 3, 6])
    >>> len(model.generate(["ab"], length=5, seed=1)[0]) <= 7
    True
    """

    parts = ("tokenizer",)

    # --- layers ---

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        cell: str = "lstm",
        units: int = 256,
        layers: int = 2,
        embedding: int | str = 128,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        tied: bool = False,
        carry_state: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        self.options = {
            "cell": cell_name(cell),
            "units": units,
            "layers": layers,
            "embedding": embedding,
            "dropout": dropout,
            "recurrent_dropout": recurrent_dropout,
            "tied": tied,
            "carry_state": carry_state,
        }
        _check(self.options, tokenizer)
        self.make_layers(tokenizer.size)
        self.supports_jit = False  # the carried state changes its shape
        self.build((None, None))

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Ids that are never drawn."""
        return PAD, UNKNOWN, START

    def build(self, input_shape):
        self.build_layers(input_shape)
        self.carry_state_of(lambda rows: tf.nest.flatten(self.initial_state(rows)))
        self.built = True

    # --- graph ---

    def call(self, ids, training=None):
        """Ids int32 [B, T] -> logits [B, T, V]."""
        carried = self.carried if self.options["carry_state"] else None
        state = None if carried is None else self._nested(carried.read(tf.shape(ids)[0]))
        logits, state = self.forward(ids, state, training=training)
        if carried is not None:
            carried.write(tf.nest.flatten(state))
        return logits

    def start(self, ids):
        """Read prompts: ids int32 [B, P], padded behind -> (ids [B] to go on with, state)."""
        ids = tf.pad(ids, [[0, 0], [1, 0]], constant_values=START)
        mask = tf.concat([tf.ones_like(ids[:, :1], tf.bool), ids[:, 1:] != PAD], axis=1)
        last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1, keepdims=True) - 1
        place = tf.range(tf.shape(ids)[1])[tf.newaxis]
        state = self.initial_state(tf.shape(ids)[0])
        _, state = self.forward(ids, state, mask=place < last, training=False)
        return tf.reduce_sum(tf.where(place == last, ids, 0), axis=1), state

    def continue_ids(self, ids, length, temperature, top_k, top_p, seed) -> Decoded:
        """Prompts int32 [B, P], padded behind -> what follows them; arguments as in `sample`."""
        ids, state = self.start(ids)
        sampling = Sampling(temperature, top_k, top_p, seed)
        return sample(self.step, ids, state, length, sampling, banned=self.banned_ids)

    def generate(
        self,
        prompts: list[str],
        length: int = 200,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> list[str]:
        """Go on with each prompt: the prompt's text and up to `length` tokens more.

        Args:
            prompts: strings, of any lengths; "" begins from nothing.
            length: the most tokens to add, 1 or more.
            temperature: 0 takes the likeliest token each time.
            top_k: draw from the k likeliest only; 0 for all.
            top_p: draw from the likeliest that together reach p; 1 for all.
            seed: the same seed gives the same text; None draws one.

        Raises:
            InputError: when an argument is out of its range.
        """
        check_sampling(prompts, length, temperature, top_k, top_p)
        seed = secrets.randbits(31) if seed is None else seed
        values = (length, temperature, top_k, top_p, seed)
        numbers = [
            tf.constant(v, place.kind.dtype) for v, place in zip(values, CHOICES, strict=True)
        ]
        texts = served_function(self)(tf.constant(prompts, tf.string), *numbers)["text"]
        return [text.decode() for text in texts.numpy()]

    def suggest(self, prompt: str, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest words at the end of a text: endings of the word begun, or next words.

        Args:
            prompt: a string; a word that it ends in is begun.
            count: how many words.

        Returns:
            (word, its probability among all words that begin so), the likeliest first.

        Raises:
            InputError: when an argument is out of its range.
        """
        check_texts("prompt", [prompt])
        begun, tokenizer = begun_word(prompt), self.tokenizer
        before = prompt[: len(prompt) - len(begun)]
        # A subword that begins a word has the space before it.
        spaced = tokenizer.level == "subword" and before.endswith(" ")
        before = before[:-1] if spaced else before
        ids, state = self.start(tokenizer.tokenize([before]).to_tensor(PAD))

        @tf.function(autograph=False, reduce_retracing=True)
        def step(ids, state):
            logits, state = self.step(ids, state)
            return tf.nn.log_softmax(without(logits, self.banned_ids))[0], state

        def next_of(id, state):
            log_p, state = step(tf.constant([id]), state)
            return log_p.numpy(), state

        known = roles(tokenizer.pieces, tokenizer.level, spaced)
        return suggest(next_of, (int(ids[0]), state), known, tokenizer.level, begun, count)

    def served(self) -> ServedLanguageModel:
        """What is exported."""
        return ServedLanguageModel(self)

    # --- config ---

    def option_values(self) -> dict:
        return {**self.options, "frozen_embedding": not self.embedding.trainable}

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Nats, bits per character and perplexity."""
        return [Nats(), BitsPerCharacter(self.tokenizer.characters_per_id), Perplexity()]

    @classmethod
    def from_config(cls, config):
        frozen = config.pop("frozen_embedding", False)
        model = super().from_config(config)
        model.embedding.trainable = not frozen
        return model


def _check(options: dict, tokenizer: Tokenizer) -> None:
    if tokenizer.size < 6:
        known = tokenizer.size - 4
        raise InputError(
            "tokenizer",
            "a vocabulary of at least two tokens",
            f"{known}",
            "give a text with more in it",
        )
    for name in ("units", "layers"):
        if options[name] < 1:
            raise InputError(name, "1 or more", options[name], "raise it")
    for name in ("dropout", "recurrent_dropout"):
        if not 0 <= options[name] < 1:
            raise InputError(name, "a share from 0 to below 1", options[name], "change it")
    embedding = options["embedding"]
    if embedding != "one-hot" and (not isinstance(embedding, int) or embedding < 1):
        raise InputError("embedding", 'a width of 1 or more, or "one-hot"', embedding, "change it")
    if options["tied"]:
        check_tied(embedding, options["units"])


def check_tied(embedding: int | str, units: int) -> None:
    """Refuse an embedding that cannot be the output weights too (InputError)."""
    if embedding != units:
        received = f"{embedding} and {units}"
        raise InputError("tied", "embedding equal to units", received, "make them equal")


def check_sampling(prompts, length, temperature, top_k, top_p) -> None:
    """Refuse sampling arguments out of their range (InputError)."""
    check_texts("prompts", prompts)
    if length < 1:
        raise InputError("length", "1 or more", length, "raise it")
    if not 0 <= temperature < math.inf:
        raise InputError(
            "temperature", "0 or more, finite", temperature, "use 0 for the likeliest token"
        )
    if top_k < 0:
        raise InputError("top_k", "0 or more", top_k, "use 0 for all tokens")
    if not 0 < top_p <= 1:
        raise InputError("top_p", "above 0 and at most 1", top_p, "use 1 for all tokens")
