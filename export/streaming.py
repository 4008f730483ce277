"""A model token by token: `encode.onnx` reads, `step.onnx` writes one id a call.

What `encode.onnx` gives `step.onnx` takes by the same names; `next_NAME` of one step is NAME of the
next. B batch, T tokens so far, S source time, G places on a side of a grid, V vocabulary.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import onnx
import tensorflow as tf

from kerasrnn.attention.scores import Memory
from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.decoding.sampling import END, PAD, draw, right_aligned, without
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.text import detokenizer_graph, labels_graph, tokenizer_graph
from kerasrnn.export.language_model import SCALARS
from kerasrnn.export.runner import STREAMING, trimmed
from kerasrnn.models.search import copied_from, with_end
from kerasrnn.text.tokenizers import START

ENCODE, STEP, CHOOSE = "encode.onnx", "step.onnx", "choose.onnx"
NEXT = "next_"
AXES = {  # names of open axes, where they are not [B, S]
    "image": ("B", "height", "width"),
    "tokens": ("B", "T"),
    "copied": ("B", "T"),
    "next_copied": ("B", "T + 1"),
}
Named = dict[str, tf.Tensor]


class Stream:
    """A served model as two functions of named tensors, `start` and `advance`.

    A subclass defines `begin(given) -> (tokens int32 [B, T], states, memory by name)` and
    `step(ids [B], states, memory) -> (logits [B, V], states, attention [B, S] or None)`.

    Args:
        served: as it is exported whole.
    """

    files = (ENCODE, STEP)

    def __init__(self, served):
        self.served, self.model, self.task = served, served.model, served.task
        self.tokenizers, self.signature = served.tokenizers, served.signature

    def start(self, given) -> Named:
        """What `encode.onnx` gives but for text: `tokens`, states, memory."""
        tokens, states, memory = self.begin(given)
        flat = {f"state_{i}": state for i, state in enumerate(tf.nest.flatten(states))}
        self.states = tf.nest.map_structure(lambda state: None, states)
        return {"tokens": tokens, **flat, **memory}

    def advance(self, fed: Named) -> Named:
        """What `step.onnx` gives but for text, of what it is fed."""
        tokens, flat = fed["tokens"], [v for n, v in fed.items() if n.startswith("state_")]
        states = tf.nest.pack_sequence_as(self.states, flat)
        logits, states, attention = self.step(tokens[:, -1], states, fed)
        given = {"logits": self._open(tf.cast(logits, tf.float32), tokens[:, -1])}
        for i, state in enumerate(tf.nest.flatten(states)):
            given[f"{NEXT}state_{i}"] = state
        return given if attention is None else {**given, "attention": attention}

    def _open(self, logits, last):
        """`logits` [B, V], -inf for what is never written, and behind an end for all but a pad."""
        finished = (last == END) | (last == PAD)
        only_pad = without(tf.zeros_like(logits), range(PAD + 1, logits.shape[1]))
        return tf.where(finished[:, tf.newaxis], only_pad, without(logits, self.model.banned_ids))

    @functools.cached_property
    def begun(self) -> Named:
        """Shapes and types of what `start` gives."""
        signature = self.served.core_signature[:1]
        traced = tf.function(self.start, input_signature=signature).get_concrete_function()
        shapes = {n: [None, *v.shape[1:]] for n, v in traced.structured_outputs.items()}
        shapes["tokens"] = [None, None]  # there will be more of them
        types = traced.output_dtypes
        return {name: tf.TensorSpec(shape, types[name], name) for name, shape in shapes.items()}

    @property
    def fed(self) -> tuple[tf.TensorSpec, ...]:
        """What `step.onnx` is fed but for text."""
        return tuple(self.begun.values())

    def encoder(self) -> onnx.ModelProto:
        """`encode.onnx`."""

        def core(given):
            return tuple(self.start(given).values())

        made = onnx_file.convert(core, self.served.core_signature[:1], list(self.begun))
        before, behind, labels = self.around()
        outputs = [*(spec.name for spec in self.fed), *labels]
        return onnx_file.joined({**before, "": made, **behind}, outputs)

    def around(self) -> tuple[dict, dict, list[str]]:
        """Graphs before and behind the core of `encode.onnx`, and their outputs."""
        return {}, {}, []

    def stepper(self) -> onnx.ModelProto:
        """`step.onnx`."""
        names: list[str] = []

        def core(*values):
            fed = {spec.name: value for spec, value in zip(self.fed, values, strict=True)}
            given = {**self.advance(fed), "all_ids": tf.identity(fed["tokens"])}
            if "copied" in fed:
                given["all_copied"] = tf.identity(fed["copied"])
            names[:] = given
            return tuple(given.values())

        tf.function(core, input_signature=self.fed).get_concrete_function()  # for the names
        made = onnx_file.convert(core, self.fed, names)
        behind = detokenizer_graph(self.tokenizers[-1], "text", "all_copied" in names)
        shown = [name for name in names if not name.startswith("all_")]
        return onnx_file.joined({"": made, "detokenize/": behind}, ["text", *shown])

    def models(self) -> dict[str, onnx.ModelProto]:
        """By file name."""
        return {ENCODE: self.encoder(), STEP: self.stepper()}

    def cases(self) -> list[dict]:
        """As of the whole model."""
        return self.served.cases()

    def answer(self, case: dict) -> dict:
        """What the Keras model itself says to a case, one id after the other."""
        return trimmed(self.served.answer(case))


class _Writing(Stream):
    """Of an encoder and a decoder; greedy."""

    def __init__(self, served):
        rules = BeamRules(beam=1, banned=served.model.banned_ids)
        super().__init__(type(served)(served.model, rules, served.max_length))
        self.rules, self.max_length = rules, served.max_length

    def read(self, given):
        """(what the encoder is given, tokens int32 [B, 1] to begin with, more memory)."""
        raise NotImplementedError

    def begin(self, given):
        source, tokens, more = self.read(given)
        encoded, decoder = self.model.encoder(source, training=False), self.model.decoder
        looked_at = decoder.memory(encoded)
        if decoder.attends:
            looked_at = looked_at._asdict()
        else:  # the summary is an input of the step, or of the state alone
            every_step = decoder.options["conditioning"] == "every_step"
            looked_at = {"summary": looked_at} if every_step else {}
        memory = {f"memory_{name}": value for name, value in looked_at.items()}
        return tokens, decoder.start(encoded), {**memory, **more}

    def step(self, ids, states, memory):
        looked_at = memory.get("memory_summary")
        if self.model.attends:
            looked_at = Memory(*(memory[f"memory_{name}"] for name in Memory._fields))
        return self.model.decoder.step(ids, states, looked_at)

    def answer(self, case):
        found = super().answer(case)
        best = {name: found[name][:, 0] for name in ("text", "score", "tokens")}
        shown = ("source_tokens", "attention")[: 1 + self.model.attends]
        return {**best, **{name: found[name] for name in shown if name in found}}


class _Translating(_Writing):
    """An empty source is an end at once: nothing is written."""

    def read(self, given):
        ids = with_end(given)
        begin = tf.where(ids[:, :1] == END, END, START)
        if not self.model.replaces_unknown:
            return ids, begin, {"source_ids": ids}
        return ids, begin, {"source_ids": ids, "copied": tf.zeros_like(begin)}

    def advance(self, fed):
        given = super().advance(fed)
        if "copied" in fed:  # the place in the source behind each of the tokens
            place = copied_from(given["attention"][:, tf.newaxis, tf.newaxis], fed["source_ids"])
            given[f"{NEXT}copied"] = tf.concat([fed["copied"], place[:, 0]], axis=1)
        return given

    @property
    def fed(self):
        if self.model.replaces_unknown:
            return super().fed
        return tuple(spec for spec in super().fed if spec.name != "source_ids")

    def around(self):
        source = self.tokenizers[0]
        before = {"tokenize/": tokenizer_graph(source, "source")}
        return before, {"labels/": labels_graph(source)}, ["source_tokens"]


class _Captioning(_Writing):
    def read(self, given):
        return given, tf.fill([tf.shape(given)[0], 1], START), {}

    def advance(self, fed):
        given, G = super().advance(fed), self.model.encoder.grid
        if "attention" in given:
            given["attention"] = tf.reshape(given["attention"], [-1, G, G])
        return given


class _Generating(Stream):
    """Of a language model, whose ids `choose.onnx` draws."""

    files = (ENCODE, STEP, CHOOSE)

    def begin(self, given):
        _, states = self.model.start(given)
        tokens = tf.pad(given, [[0, 0], [1, 0]], constant_values=START)
        return right_aligned(tokens), states, {}

    def step(self, ids, states, memory):
        return *self.model.step(ids, states), None

    def around(self):
        return {"tokenize/": tokenizer_graph(self.tokenizers[0], "prompt")}, {}, []

    def models(self):
        logits = tf.TensorSpec([None, self.tokenizers[0].size], tf.float32, "logits")
        count, *options = SCALARS
        t = tf.TensorSpec([], count.dtype, "t")

        def choose(logits, t, temperature, top_k, top_p, seed):
            return draw(logits, t, seed, temperature, top_k, top_p)

        made = onnx_file.convert(choose, [logits, t, *options], ["ids"])
        return {**super().models(), CHOOSE: made}


STREAMS = {"Captioner": _Captioning, "LanguageModel": _Generating, "Translator": _Translating}


def stream_of(served) -> Stream:
    """A served model token by token.

    Raises:
        InputError: when it is an ensemble.
    """
    kind = type(served.model).__name__
    if kind not in STREAMS:
        expected = f"one of {', '.join(STREAMS)}, for token by token"
        raise InputError("model", expected, kind, "export one of its members")
    return STREAMS[kind](served)


def write(stream: Stream, encode: Path, metadata: dict[str, str]) -> None:
    """Write `encode.onnx` and the files beside it; each says how they belong together."""
    models = stream.models()
    said = {"files": stream.files, "start": START, "end": END, "pad": PAD}
    said["max_length"] = getattr(stream, "max_length", None)
    outputs = [output.name for output in models[STEP].graph.output]
    said["next"] = {n: n.removeprefix(NEXT) for n in outputs if n.startswith(NEXT)}
    said = {**metadata, STREAMING: json.dumps(said)}
    for name, model in models.items():
        _name_axes(model)
        onnx_file.write(model, encode.with_name(name), said)


def _name_axes(model: onnx.ModelProto) -> None:
    """Say what the open axes of inputs and outputs are."""
    for value in (*model.graph.input, *model.graph.output):
        axes = AXES.get(value.name, ("B", "S"))
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = axis
