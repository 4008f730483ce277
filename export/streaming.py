"""Exports a model for use token by token: `encode.onnx` reads, `step.onnx` writes one id per call.

The outputs of `encode.onnx` are the inputs of `step.onnx` of the same names; the output `next_NAME`
of one step is the input NAME of the next. B batch, T tokens so far, S source time, G places on a
side of a grid, V vocabulary.
"""

from __future__ import annotations

import json

import onnx
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.export.forms import Onnx, refusing
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.text import graph_of
from kerasrnn.export.runner import NEXT, STREAMING, trim
from kerasrnn.models.serving.stream import Stream
from kerasrnn.text.tokenizers import END, PAD, START

ENCODE, STEP, CHOOSE = "encode.onnx", "step.onnx", "choose.onnx"
AXES = {  # names of open axes; of all other values they are [B, S]
    "tokens": ("B", "T"),
    "copied": ("B", "T"),
    "next_copied": ("B", "T + 1"),
}


class Streaming(Onnx):
    """The files of a model for use token by token."""

    file = ENCODE

    def __init__(self, served):
        if served.stream is None:
            expected, received = "a model that writes token by token", f"a {served.task}"
            raise InputError("format", expected, f"streaming of {received}", "leave it out")
        self.stream: Stream = served.stream
        super().__init__(self.stream.served)

    @property
    def files(self):
        return (ENCODE, STEP) if self.stream.chooser is None else (ENCODE, STEP, CHOOSE)

    def answered(self):
        """The answers of the Keras model, without the steps at which no row writes."""
        return [(case, self._shown(answer)) for case, answer in super().answered()]

    def _shown(self, answer):
        """Of the N best the one that is written, and what the files give beside it."""
        answer = trim(answer)
        if not self.served.search:
            return answer
        best = {name: answer[name][:, 0] for name in ("text", "score", "tokens")}
        shown = ("source_tokens", "attention")[: 1 + self.stream.model.attends]
        return {**best, **{name: answer[name] for name in shown if name in answer}}

    def write(self, path, metadata):
        """Write `encode.onnx` and the files beside it, with metadata that connects them."""
        models = self.models()
        protocol = {"files": self.files, "start": START, "end": END, "pad": PAD}
        protocol["max_length"] = self.stream.max_length
        outputs = [output.name for output in models[STEP].graph.output]
        protocol["next"] = {n: n.removeprefix(NEXT) for n in outputs if n.startswith(NEXT)}
        metadata = {**metadata, STREAMING: json.dumps(protocol)}
        axes = {p.name: ("B", *p.kind.axes) for p in self.served.takes if p.kind.batched}
        for name, model in models.items():
            _name_axes(model, axes)
            onnx_file.write(model, path.with_name(name), metadata)

    def models(self) -> dict[str, onnx.ModelProto]:
        """The models by file name."""
        models = {ENCODE: _encoder(self.stream), STEP: _stepper(self.stream)}
        if self.stream.chooser is not None:
            models[CHOOSE] = onnx_file.convert(*self.stream.chooser, ["ids"])
        return models


def _encoder(stream: Stream) -> onnx.ModelProto:
    """The model of `encode.onnx`."""

    def core(inputs):
        return tuple(stream.start(inputs).values())

    proto = onnx_file.convert(core, stream.served.core_signature[:1], list(stream.begun))
    parts = {f"before_{i}/": graph_of(part) for i, part in enumerate(stream.before)}
    parts[""] = proto
    names = [spec.name for spec in stream.fed]
    for i, part in enumerate(stream.behind):
        graph = graph_of(part)
        parts[f"behind_{i}/"] = graph
        names += [output.name for output in graph.graph.output]
    return refusing(onnx_file.join_models(parts, names), stream.served)


def _stepper(stream: Stream) -> onnx.ModelProto:
    """The model of `step.onnx`."""
    names: list[str] = []

    def core(*values):
        fed = {spec.name: value for spec, value in zip(stream.fed, values, strict=True)}
        outputs = {**stream.advance(fed), "all_ids": tf.identity(fed["tokens"])}
        if "copied" in fed:
            outputs["all_copied"] = tf.identity(fed["copied"])
        names[:] = outputs
        return tuple(outputs.values())

    tf.function(core, input_signature=stream.fed).get_concrete_function()  # fills `names`
    proto = onnx_file.convert(core, stream.fed, names)
    shown = [name for name in names if not name.startswith("all_")]
    parts = {"": proto, "detokenize/": graph_of(stream.written)}
    return onnx_file.join_models(parts, ["text", *shown])


def _name_axes(model: onnx.ModelProto, known: dict[str, tuple]) -> None:
    """Name the open axes of inputs and outputs; those `known` are of the user's inputs."""
    for value in (*model.graph.input, *model.graph.output):
        axes = {**known, **AXES}.get(value.name, ("B", "S"))
        for dim, axis in zip(value.type.tensor_type.shape.dim, axes, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = str(axis)
