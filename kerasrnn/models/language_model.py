"""The language model: embedding -> recurrent stack -> logits (Mikolov et al. 2010).

B batch, T time, P prompt, E embedding, H units, V vocabulary.
"""

from __future__ import annotations

import math
import secrets

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.base.errors import InputError, check_texts
from kerasrnn.cells import CELLS, Cell, Dropout
from kerasrnn.decoding.sampling import Decoded, Sampling, right_aligned, sample
from kerasrnn.distribution.multi_worker import FitsOnManyWorkers
from kerasrnn.layers import Recurrent
from kerasrnn.layers.carry import CarriesState
from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity
from kerasrnn.text.tokenizers import PAD, START, UNKNOWN, Tokenizer


@keras.saving.register_keras_serializable(package="kerasrnn")
class OneHot(keras.layers.Layer):
    """Ids [B, T] -> one-hot [B, T, V]."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, ids):
        return ops.one_hot(ids, self.size, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.size)

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="kerasrnn")
class LanguageModel(CarriesState, FitsOnManyWorkers, keras.Model):
    """Predicts each token from those before it; text in, text out.

    Called on ids int32 [B, T] it gives logits [B, T, V]. In `fit` and `evaluate` the recurrent
    state is carried from batch to batch and reset at the beginning of each pass. Dropout masks
    are shared over time (Gal & Ghahramani 2016).

    Args:
        tokenizer: strings <-> ids; saved inside the model.
        cell: a name in `kerasrnn.cells.CELLS`.
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
            "cell": cell,
            "units": units,
            "layers": layers,
            "embedding": embedding,
            "dropout": dropout,
            "recurrent_dropout": recurrent_dropout,
            "tied": tied,
            "carry_state": carry_state,
        }
        _check(self.options, tokenizer)
        policy = self.dtype_policy
        self.embedding = _embedding(tokenizer.size, embedding, tied, policy)
        shared = {"noise_shape": (None, 1, None), "dtype": policy}
        self.dropouts = [
            keras.layers.Dropout(dropout, name=f"dropout_{i}", **shared) for i in range(layers + 1)
        ]
        cells = [_cell(cell, units, recurrent_dropout, policy) for _ in range(layers)]
        both = {"return_sequences": True, "return_state": True, "dtype": policy}
        self.recurrent = [
            Recurrent(one, name=f"recurrent_{i}", **both) for i, one in enumerate(cells)
        ]
        # Logits stay float32 in mixed precision.
        readout = keras.layers.Dense(tokenizer.size, dtype="float32", name="readout")
        self.readout = None if tied else readout
        self.supports_jit = False  # the carried state changes its shape
        self.build((None, None))

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Ids that are never drawn."""
        return PAD, UNKNOWN, START

    def build(self, input_shape):
        ids = keras.KerasTensor(input_shape, "int32")
        self.embedding.build(input_shape)
        shape = (None, None, self.embedding.compute_output_shape(ids.shape)[-1])
        for layer in self.recurrent:
            layer.build(shape)
            shape = (None, None, layer.cell.output_size)
        if self.readout is not None:
            self.readout.build(shape)
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

    def forward(self, ids, state=None, *, mask=None, training=None):
        """Ids [B, T], the state before, their mask [B, T] -> logits [B, T, V], the state after."""
        x, after = self.embedding(ids), []
        for i, layer in enumerate(self.recurrent):
            x = self.dropouts[i](x, training=training)
            initial = None if state is None else state[i]
            x, *own = layer(x, mask=mask, initial_state=initial, training=training)
            after.append(own)
        return self.logits(self.dropouts[-1](x, training=training)), after

    def logits(self, x):
        """Outputs of the last layer [..., H] -> logits [..., V]."""
        if self.readout is not None:
            return self.readout(x)
        # A new tensor carries no implicit Keras mask, of which this layer would warn.
        return self.embedding(tf.identity(x), reverse=True)

    def step(self, ids, state):
        """One step of decoding: ids [B], state -> logits [B, V], state."""
        x, after = self.embedding(ids), []
        for layer, own in zip(self.recurrent, state, strict=True):
            x, own = layer.cell(x, own, training=False)
            after.append(list(own))
        return self.logits(x), after

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
        scalars = (length, temperature, top_k, top_p, seed)
        texts, _, _ = self.generate_graph(tf.constant(prompts, tf.string), *scalars)
        return [text.decode() for text in texts.numpy()]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "prompt"),
            tf.TensorSpec([], tf.int32, "max_length"),
            tf.TensorSpec([], tf.float32, "temperature"),
            tf.TensorSpec([], tf.int32, "top_k"),
            tf.TensorSpec([], tf.float32, "top_p"),
            tf.TensorSpec([], tf.int32, "seed"),
        ],
        autograph=False,
    )
    def generate_graph(self, prompt, max_length, temperature, top_k, top_p, seed):
        """Strings [B] -> (text string [B], tokens int32 [B, T], score float32 [B])."""
        ids = self.tokenizer.tokenize(prompt).to_tensor(PAD)
        decoded = self.continue_ids(ids, max_length, temperature, top_k, top_p, seed)
        text = self.tokenizer.detokenize(tf.concat([right_aligned(ids), decoded.ids], axis=1))
        return text, decoded.ids, decoded.scores

    def initial_state(self, rows):
        """The state before any text: for each layer a list of [rows, H]."""
        return [tf.nest.flatten(layer.cell.initial_state(rows)) for layer in self.recurrent]

    def _nested(self, flat: list) -> list[list]:
        """A flat list of states as a list for each layer."""
        flat = iter(flat)
        return [[next(flat) for _ in _sizes(layer)] for layer in self.recurrent]

    # --- config ---

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """As Keras's, with defaults: Adam with gradients clipped to a global norm of 1, the
        cross-entropy of the logits, and nats, bits per character and perplexity as metrics."""
        if optimizer is None:
            optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if metrics is None:
            characters = self.tokenizer.characters_per_id
            metrics = [Nats(), BitsPerCharacter(characters), Perplexity()]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        tokenizer = keras.saving.serialize_keras_object(self.tokenizer)
        frozen = {"frozen_embedding": not self.embedding.trainable}
        return {**super().get_config(), "tokenizer": tokenizer, **self.options, **frozen}

    @classmethod
    def from_config(cls, config):
        tokenizer = keras.saving.deserialize_keras_object(config.pop("tokenizer"))
        frozen = config.pop("frozen_embedding", False)
        model = cls(tokenizer, **config)
        model.embedding.trainable = not frozen
        return model


def _embedding(size: int, width: int | str, tied: bool, policy) -> keras.layers.Layer:
    if width == "one-hot":
        return OneHot(size, dtype=policy, name="embedding")
    # Tied weights also make logits, which must begin small.
    spread = keras.initializers.RandomNormal(stddev=width**-0.5 if tied else 1.0)
    return keras.layers.ReversibleEmbedding(
        size,
        width,
        embeddings_initializer=spread,
        reverse_dtype="float32",
        dtype=policy,
        name="embedding",
    )


def _cell(name: str, units: int, recurrent_dropout: float, policy) -> Cell:
    cell = CELLS[name](units, dtype=policy)
    if not recurrent_dropout:
        return cell
    return Dropout(cell, recurrent_rate=recurrent_dropout, dtype=policy)


def _sizes(layer: Recurrent) -> list[int]:
    """H of each state tensor of a recurrent layer."""
    return tf.nest.flatten(layer.cell.state_size)


def _check(options: dict, tokenizer: Tokenizer) -> None:
    if tokenizer.size < 6:
        known = tokenizer.size - 4
        raise InputError(
            "tokenizer",
            "a vocabulary of at least two tokens",
            f"{known}",
            "give a text with more in it",
        )
    if options["cell"] not in CELLS:
        raise InputError(
            "cell", f"one of {', '.join(CELLS)}", options["cell"], "choose one of them"
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
    if options["tied"] and embedding != options["units"]:
        raise InputError(
            "tied",
            "embedding equal to units",
            f"{embedding} and {options['units']}",
            "make them equal",
        )


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
