"""Exports a model for use token by token: `encode.onnx` reads, `step.onnx` writes one id per call.

The outputs of `encode.onnx` are the inputs of `step.onnx` of the same names; the output `next_NAME`
of one step is the input NAME of the next. B batch, T tokens so far, S source time, G places on a
side of a grid, V vocabulary.
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
from kerasrnn.export.captioner import EMPTY
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.checks import refuse_empty
from kerasrnn.export.graphs.text import detokenizer_graph, labels_graph, tokenizer_graph
from kerasrnn.export.language_model import SCALARS
from kerasrnn.export.runner import STREAMING, trim
from kerasrnn.models.search import copied_from, with_end
from kerasrnn.text.tokenizers import START

ENCODE, STEP, CHOOSE = "encode.onnx", "step.onnx", "choose.onnx"
NEXT = "next_"
AXES = {  # names of open axes; of all other values they are [B, S]
    "image": ("B", "height", "width"),
    "tokens": ("B", "T"),
    "copied": ("B", "T"),
    "next_copied": ("B", "T + 1"),
}
Named = dict[str, tf.Tensor]


class Stream:
    """A served model as two functions of named tensors, `start` and `advance`.

    A subclass defines `begin(inputs) -> (tokens int32 [B, T], states, memory by name)` and
    `step(ids [B], states, memory) -> (logits [B, V], states, attention [B, S] or None)`.

    Args:
        served: the model as the other formats export it.
    """

    files = (ENCODE, STEP)

    def __init__(self, served):
        self.served, self.model, self.task = served, served.model, served.task
        self.tokenizers, self.signature = served.tokenizers, served.signature

    def start(self, inputs) -> Named:
        """The outputs of `encode.onnx` except text: `tokens`, states, memory."""
        tokens, states, memory = self.begin(inputs)
        flat = {f"state_{i}": state for i, state in enumerate(tf.nest.flatten(states))}
        # `advance` needs the nesting of the states only.
        self.states = tf.nest.map_structure(lambda state: None, states)
        return {"tokens": tokens, **flat, **memory}

    def advance(self, fed: Named) -> Named:
        """The outputs of `step.onnx` except text, from its inputs."""
        tokens, flat = fed["tokens"], [v for n, v in fed.items() if n.startswith("state_")]
        states = tf.nest.pack_sequence_as(self.states, flat)
        logits, states, attention = self.step(tokens[:, -1], states, fed)
        outputs = {"logits": self._open(tf.cast(logits, tf.float32), tokens[:, -1])}
        for i, state in enumerate(tf.nest.flatten(states)):
            outputs[f"{NEXT}state_{i}"] = state
        return outputs if attention is None else {**outputs, "attention": attention}

    def _open(self, logits, last):
        """`logits` [B, V] with -inf for banned ids. A finished row can only write a pad."""
        finished = (last == END) | (last == PAD)
        only_pad = without(tf.zeros_like(logits), range(PAD + 1, logits.shape[1]))
        return tf.where(finished[:, tf.newaxis], only_pad, without(logits, self.model.banned_ids))

    @functools.cached_property
    def begun(self) -> Named:
        """Specs of the outputs of `start`, by name."""
        signature = self.served.core_signature[:1]
        traced = tf.function(self.start, input_signature=signature).get_concrete_function()
        shapes = {n: [None, *v.shape[1:]] for n, v in traced.structured_outputs.items()}
        shapes["tokens"] = [None, None]  # steps append to them
        types = traced.output_dtypes
        return {name: tf.TensorSpec(shape, types[name], name) for name, shape in shapes.items()}

    @property
    def fed(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of the inputs of `step.onnx` except text."""
        return tuple(self.begun.values())

    def encoder(self) -> onnx.ModelProto:
        """The model of `encode.onnx`."""

        def core(inputs):
            return tuple(self.start(inputs).values())

        proto = onnx_file.convert(core, self.served.core_signature[:1], list(self.begun))
        before, behind, labels = self.around()
        outputs = [*(spec.name for spec in self.fed), *labels]
        return onnx_file.join_models({**before, "": proto, **behind}, outputs)

    def around(self) -> tuple[dict, dict, list[str]]:
        """Graphs before and after the core of `encode.onnx`, and the outputs that they add."""
        return {}, {}, []

    def stepper(self) -> onnx.ModelProto:
        """The model of `step.onnx`."""
        names: list[str] = []

        def core(*values):
            fed = {spec.name: value for spec, value in zip(self.fed, values, strict=True)}
            outputs = {**self.advance(fed), "all_ids": tf.identity(fed["tokens"])}
            if "copied" in fed:
                outputs["all_copied"] = tf.identity(fed["copied"])
            names[:] = outputs
            return tuple(outputs.values())

        tf.function(core, input_signature=self.fed).get_concrete_function()  # fills `names`
        proto = onnx_file.convert(core, self.fed, names)
        behind = detokenizer_graph(self.tokenizers[-1], "text", "all_copied" in names)
        shown = [name for name in names if not name.startswith("all_")]
        return onnx_file.join_models({"": proto, "detokenize/": behind}, ["text", *shown])

    def models(self) -> dict[str, onnx.ModelProto]:
        """The models by file name."""
        return {ENCODE: self.encoder(), STEP: self.stepper()}

    def cases(self) -> list[dict]:
        """The cases of the served model."""
        return self.served.cases()

    def answer(self, case: dict) -> dict:
        """The answer of the Keras model to a case, without the steps at which no row writes."""
        return trim(self.served.answer(case))


class _EncoderDecoderStream(Stream):
    """A model with an encoder and a decoder, written greedily."""

    def __init__(self, served):
        rules = BeamRules(beam=1, banned=served.model.banned_ids)
        super().__init__(type(served)(served.model, rules, served.max_length))
        self.rules, self.max_length = rules, served.max_length

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

    def answer(self, case):
        answer = super().answer(case)
        best = {name: answer[name][:, 0] for name in ("text", "score", "tokens")}
        shown = ("source_tokens", "attention")[: 1 + self.model.attends]
        return {**best, **{name: answer[name] for name in shown if name in answer}}


class _TranslatorStream(_EncoderDecoderStream):
    """A translator. An empty source begins with the end id, so nothing is written."""

    def read(self, inputs):
        ids = with_end(inputs)
        begin = tf.where(ids[:, :1] == END, END, START)
        if not self.model.replaces_unknown:
            return ids, begin, {"source_ids": ids}
        return ids, begin, {"source_ids": ids, "copied": tf.zeros_like(begin)}

    def advance(self, fed):
        outputs = super().advance(fed)
        if "copied" in fed:  # the place in the source that each token may be copied from
            place = copied_from(outputs["attention"][:, tf.newaxis, tf.newaxis], fed["source_ids"])
            outputs[f"{NEXT}copied"] = tf.concat([fed["copied"], place[:, 0]], axis=1)
        return outputs

    @property
    def fed(self):
        if self.model.replaces_unknown:
            return super().fed
        return tuple(spec for spec in super().fed if spec.name != "source_ids")

    def around(self):
        source = self.tokenizers[0]
        before = {"tokenize/": tokenizer_graph(source, "source")}
        return before, {"labels/": labels_graph(source)}, ["source_tokens"]


class _CaptionerStream(_EncoderDecoderStream):
    """A captioner, with attention as a grid [B, G, G]."""

    def read(self, inputs):
        return inputs, tf.fill([tf.shape(inputs)[0], 1], START), {}

    def encoder(self):
        return refuse_empty(super().encoder(), "image", EMPTY)

    def advance(self, fed):
        outputs, G = super().advance(fed), self.model.encoder.grid
        if "attention" in outputs:
            outputs["attention"] = tf.reshape(outputs["attention"], [-1, G, G])
        return outputs


class _LanguageModelStream(Stream):
    """A language model; `choose.onnx` draws its ids."""

    files = (ENCODE, STEP, CHOOSE)

    def begin(self, inputs):
        _, states = self.model.start(inputs)
        tokens = tf.pad(inputs, [[0, 0], [1, 0]], constant_values=START)
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

        proto = onnx_file.convert(choose, [logits, t, *options], ["ids"])
        return {**super().models(), CHOOSE: proto}


STREAMS = {
    "Captioner": _CaptionerStream,
    "LanguageModel": _LanguageModelStream,
    "Translator": _TranslatorStream,
}


def stream_of(served) -> Stream:
    """The form of a served model for use token by token.

    Raises:
        InputError: when the model is an ensemble.
    """
    kind = type(served.model).__name__
    if kind not in STREAMS:
        expected = f"one of {', '.join(STREAMS)}, for token by token"
        raise InputError("model", expected, kind, "export one of its members")
    return STREAMS[kind](served)


def write(stream: Stream, encode: Path, metadata: dict[str, str]) -> None:
    """Write `encode.onnx` and the files beside it, with metadata that connects them."""
    models = stream.models()
    protocol = {"files": stream.files, "start": START, "end": END, "pad": PAD}
    protocol["max_length"] = getattr(stream, "max_length", None)
    outputs = [output.name for output in models[STEP].graph.output]
    protocol["next"] = {n: n.removeprefix(NEXT) for n in outputs if n.startswith(NEXT)}
    metadata = {**metadata, STREAMING: json.dumps(protocol)}
    for name, model in models.items():
        _name_axes(model)
        onnx_file.write(model, encode.with_name(name), metadata)


def _name_axes(model: onnx.ModelProto) -> None:
    """Name the open axes of inputs and outputs."""
    for value in (*model.graph.input, *model.graph.output):
        axes = AXES.get(value.name, ("B", "S"))
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = axis
