"""A served model token by token: what reads, and what writes one id per call.

The outputs of `start` are the inputs of `advance` of the same names; the output `next_NAME` of one
step is the input NAME of the next. B batch, T tokens so far, S source time, V vocabulary.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from kerasrnn.attention.scores import Memory
from kerasrnn.decoding.sampling import END, PAD, without
from kerasrnn.text.parts import Detokenize

Named = dict[str, tf.Tensor]


class Stream:
    """A served model as two functions of named tensors, `start` and `advance`.

    A subclass defines `begin(inputs) -> (tokens int32 [B, T], states, memory by name)` and
    `step(ids [B], states, memory) -> (logits [B, V], states, attention [B, S] or None)`.

    Args:
        served: the model as the other formats export it, with the search of this one.

    Attributes:
        max_length: the most tokens that are written; None where the user says it.
        chooser: None, or (function, specs): logits float32 [B, V], t and numbers that the model
            takes -> ids [B]. Without it the likeliest id is taken.
    """

    chooser = None

    def __init__(self, served):
        self.served, self.model = served, served.model
        self.before, self.max_length = served.before, getattr(served, "max_length", None)

    def begin(self, inputs):
        raise NotImplementedError

    def step(self, ids, states, memory):
        raise NotImplementedError

    @property
    def behind(self) -> list:
        """Parts that add text to what `start` gives."""
        return []

    def start(self, inputs) -> Named:
        """`tokens`, states and memory."""
        tokens, states, memory = self.begin(inputs)
        flat = {f"state_{i}": state for i, state in enumerate(tf.nest.flatten(states))}
        # `advance` needs the nesting of the states only.
        self.states = tf.nest.map_structure(lambda state: None, states)
        return {"tokens": tokens, **flat, **memory}

    def advance(self, fed: Named) -> Named:
        """Logits, the next states and attention, from what `start` or the last step gave."""
        tokens, flat = fed["tokens"], [v for n, v in fed.items() if n.startswith("state_")]
        states = tf.nest.pack_sequence_as(self.states, flat)
        logits, states, attention = self.step(tokens[:, -1], states, fed)
        outputs = {"logits": self._open(tf.cast(logits, tf.float32), tokens[:, -1])}
        for i, state in enumerate(tf.nest.flatten(states)):
            outputs[f"next_state_{i}"] = state
        return outputs if attention is None else {**outputs, "attention": attention}

    def _open(self, logits, last):
        """`logits` [B, V] with -inf for banned ids. A finished row can only write a pad."""
        finished = (last == END) | (last == PAD)
        only_pad = without(tf.zeros_like(logits), range(PAD + 1, logits.shape[1]))
        return tf.where(finished[:, tf.newaxis], only_pad, without(logits, self.model.banned_ids))

    @functools.cached_property
    def begun(self) -> dict[str, tf.TensorSpec]:
        """Specs of the outputs of `start`, by name."""
        signature = self.served.core_signature[:1]
        traced = tf.function(self.start, input_signature=signature).get_concrete_function()
        shapes = {n: [None, *v.shape[1:]] for n, v in traced.structured_outputs.items()}
        shapes["tokens"] = [None, None]  # steps append to them
        types = traced.output_dtypes
        return {name: tf.TensorSpec(shape, types[name], name) for name, shape in shapes.items()}

    @property
    def fed(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of what `advance` takes."""
        return tuple(self.begun.values())

    @property
    def written(self) -> Detokenize:
        """The part that says what is written so far."""
        return Detokenize(self.served.tokenizers[-1], replaces="copied" in self.begun)


class EncoderDecoderStream(Stream):
    """A model with an encoder and a decoder, written greedily."""

    def read(self, inputs):
        """(input of the encoder, first tokens int32 [B, 1], more memory by name)."""
        raise NotImplementedError

    def begin(self, inputs):
        source, tokens, more = self.read(inputs)
        encoded, decoder = self.model.encoder(source, training=False), self.model.decoder
        attended = decoder.memory(encoded)
        if decoder.attends:
            attended = attended._asdict()
        else:  # the step reads the summary too, unless only the first state depends on it
            every_step = decoder.options["conditioning"] == "every_step"
            attended = {"summary": attended} if every_step else {}
        memory = {f"memory_{name}": value for name, value in attended.items()}
        return tokens, decoder.start(encoded), {**memory, **more}

    def step(self, ids, states, memory):
        attended = memory.get("memory_summary")
        if self.model.attends:
            attended = Memory(*(memory[f"memory_{name}"] for name in Memory._fields))
        return self.model.decoder.step(ids, states, attended)
