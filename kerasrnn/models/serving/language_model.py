"""How a language model is served: text in, the text with what follows it out."""

from __future__ import annotations

import functools

import tensorflow as tf

from kerasrnn.decoding.sampling import draw, right_aligned
from kerasrnn.kinds import Choice, Ids, Number, Place, State, Text
from kerasrnn.models.serving.scoring import COST, Scoring, cost_of
from kerasrnn.models.serving.served import Served, spec_of
from kerasrnn.models.serving.stream import Stream
from kerasrnn.text.parts import Detokenize, Tokenize
from kerasrnn.text.tokenizers import PAD, RESERVED, START

PROMPT = "Text to go on with; may be empty"
CHOICES = (
    Place("max_length", Choice("int32", 1, 5000, 200, (12, 40, 20, 20, 12, 1, 0, 300)), "Length"),
    Place(
        "temperature",
        Choice("float32", 0, None, 0.8, (1.0, 0.8, 1.1, 0.0, 1.0, 1.0, 1.0, 1.0)),
        "Temperature",
    ),
    Place("top_k", Choice("int32", 0, None, 0, (0, 5, 0, 0, 0, 0, 0, 3)), "Top k (0: all)"),
    Place("top_p", Choice("float32", 0, 1, 1, (1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0, 0.7)), "Top p"),
    Place("seed", Choice("int32", 0, 2**31 - 1, 1, (1, 2, 3, 4, 1, 5, 6, 7)), "Seed"),
)


def text_of(tokenizer, lines: bool = False) -> Text:
    """The kind of a text that a tokenizer reads, of one line or of several `lines`."""
    separator = " " if tokenizer.level == "word" else ""
    return Text(lines, tuple(tokenizer.pieces[len(RESERVED) :]), separator)


class ServedLanguageModel(Served):
    """A `LanguageModel`: a prompt and numbers in; text, tokens and log p out."""

    task, title = "lm", "Go on with a text"
    gives = (Place("text", Text()), Place("tokens", Ids()), Place("score", Number()))
    core_outputs = ("all_ids", "tokens", "score")

    def __init__(self, model):
        super().__init__(model)
        tokenizer = model.tokenizer
        self.takes = (Place("prompt", text_of(tokenizer, lines=True), PROMPT), *CHOICES)
        self.before, self.behind = [Tokenize(tokenizer, "prompt")], [Detokenize(tokenizer)]

    @property
    def tokenizers(self):
        return [self.model.tokenizer]

    def core(self, ids, *choices):
        decoded = self.model.continue_ids(ids, *choices)
        return tf.concat([right_aligned(ids), decoded.ids], axis=1), decoded.ids, decoded.scores

    @functools.cached_property
    def stream(self):
        return LanguageModelStream(self)

    @functools.cached_property
    def scoring(self):
        return LanguageModelScoring(self)


class LanguageModelScoring(Scoring):
    """What a text costs; and where it ends, so that the text behind it can be scored too.

    `previous` is the id before the text. `fresh` is 1 where a row begins anew, and its states are
    those before any text, whatever is given.
    """

    def __init__(self, served):
        super().__init__(served)
        tokenizer, states = self.model.tokenizer, tf.nest.flatten(self.model.initial_state(1))
        ids = range(START, tokenizer.size)
        self.before = [Tokenize(tokenizer, "text")]
        carried = [
            Place("previous", State(None, "int32", START, tuple(ids))),
            *(Place(f"state_{i}", State(v.shape[1])) for i, v in enumerate(states)),
        ]
        fresh = Place("fresh", State(None, "int32", 1, (0, 1)))
        self.takes = (Place("text", text_of(tokenizer, lines=True)), fresh, *carried)
        self.gives = (*COST, *(place._replace(name=f"next_{place.name}") for place in carried))

    def core(self, ids, fresh, previous, *states):
        B = tf.shape(ids)[0]
        ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=PAD)  # a step, where there is no text
        fresh, previous = (tf.broadcast_to(value, [B]) for value in (fresh, previous))
        initial = tf.nest.flatten(self.model.initial_state(B))
        begun = (fresh > 0)[:, tf.newaxis]
        # In mixed precision the model's states are narrower than those that callers hand on.
        given = [tf.cast(s, i.dtype) for s, i in zip(states, initial, strict=True)]
        states = [tf.where(begun, *pair) for pair in zip(initial, given, strict=True)]
        nested = tf.nest.pack_sequence_as(self.model.initial_state(1), states)
        seen = tf.concat([previous[:, tf.newaxis], ids], axis=1)
        mask = ids != PAD
        logits, after = self.model.forward(seen[:, :-1], nested, mask=mask, training=False)
        last = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        after = [tf.cast(state, tf.float32) for state in tf.nest.flatten(after)]
        return (*cost_of(logits, ids), tf.gather(seen, last, batch_dims=1), *after)


class LanguageModelStream(Stream):
    """A language model; `choose.onnx` draws its ids."""

    def begin(self, inputs):
        _, states = self.model.start(inputs)
        tokens = tf.pad(inputs, [[0, 0], [1, 0]], constant_values=START)
        return right_aligned(tokens), states, {}

    def step(self, ids, states, memory):
        return *self.model.step(ids, states), None

    @property
    def chooser(self):
        """(function, specs of its inputs): logits and numbers -> the ids that are drawn."""
        logits = tf.TensorSpec([None, self.model.tokenizer.size], tf.float32, "logits")
        count, *options = (spec_of(place) for place in CHOICES)
        t = tf.TensorSpec([], count.dtype, "t")

        def choose(logits, t, temperature, top_k, top_p, seed):
            return draw(logits, t, seed, temperature, top_k, top_p)

        return choose, [logits, t, *options]
