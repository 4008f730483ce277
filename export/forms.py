"""The forms in which a served model is written: one class for each format.

A form has `file`, the name of its file, or of the first of its files, and `files`, all of them. Its
answers to `cases` are those that the artifact must give.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.export import saved_model
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.checks import refuse_empty
from kerasrnn.export.graphs.text import graph_of
from kerasrnn.export.metadata import tokenizers_of
from kerasrnn.export.runner import METADATA, decode_strings
from kerasrnn.export.verify import Case
from kerasrnn.kinds import Place, State, described
from kerasrnn.models.serving import Served

_ANSWERED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def answer(served: Served, case: Case) -> Case:
    """The answer of a served Keras model to a case."""
    function = served.functions[frozenset(case)]
    specs = function.input_signature
    values = [tf.constant(_plain(case[spec.name]), spec.dtype) for spec in specs]
    return {name: decode_strings(value.numpy()) for name, value in function(*values).items()}


def _plain(value):
    """A value of a case as TensorFlow takes it."""
    return value.tolist() if value.dtype == object else value


def answered(served: Served) -> list[tuple[Case, Case]]:
    """(case, the answer) for all cases of a served Keras model; computed once, as it takes long."""
    if served not in _ANSWERED:
        _ANSWERED[served] = [(case, answer(served, case)) for case in served.cases()]
    return _ANSWERED[served]


class Onnx:
    """One ONNX file.

    Args:
        served: the model.
    """

    file = "model.onnx"

    def __init__(self, served: Served):
        self.served = served

    @property
    def more(self) -> dict[str, str]:
        """Metadata of this form only."""
        return {}

    @property
    def files(self) -> Sequence[str]:
        return (self.file,)

    @property
    def takes(self) -> set[str]:
        """The names of the inputs that the artifact can take."""
        return {spec.name for spec in self.served.signature}

    def answered(self) -> list[tuple[Case, Case]]:
        """(case, the model's answer) for all cases."""
        return answered(self.served)

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the artifact."""
        served = self.served
        metadata = metadata | self.more
        core = onnx_file.convert(served.core, served.core_signature, served.core_outputs)
        parts = {f"before_{i}/": graph_of(part) for i, part in enumerate(served.before)}
        parts[""] = core
        parts |= {f"behind_{i}/": graph_of(part) for i, part in enumerate(served.behind)}
        whole = onnx_file.join_models(parts, [place.name for place in served.gives])
        for place in served.takes:
            if isinstance(place.kind, State):
                _make_optional(whole, place)
        onnx_file.write(refusing(whole, served), path, metadata)


def _make_optional(model: onnx.ModelProto, place: Place) -> None:
    """Give an input a default, of one row, which the core spreads over all rows."""
    [declared] = [value for value in model.graph.input if value.name == place.name]
    default = np.full([1, *place.kind.axes], place.kind.default, place.kind.dtype)
    model.graph.initializer.append(onnx.numpy_helper.from_array(default, place.name))
    # A caller may give other rows than one.
    declared.type.tensor_type.shape.dim[0].dim_param = "B"


def refusing(model, served: Served):
    """An ONNX model that refuses empty inputs of the kinds that say so."""
    for place in served.takes:
        if place.kind.refusal:
            refuse_empty(model, place.name, place.kind.refusal)
    return model


class SavedModel(Onnx):
    """A SavedModel, with its metadata in a JSON file."""

    file = "saved_model"

    @property
    def takes(self):
        signatures = self.served.signatures.values()
        return {spec.name for _, signature in signatures for spec in signature}

    def answered(self):
        """All cases of all signatures."""
        scoring = self.served.scoring
        return super().answered() + (answered(scoring) if scoring else [])

    def write(self, path, metadata):
        captured = [self.served.model.variables, *self.served.tokenizers]
        saved_model.write(self.served.signatures, captured, path)
        (path / METADATA).parent.mkdir(exist_ok=True)
        text = json.dumps(metadata | tokenizers_of(self.served), indent=2)
        (path / METADATA).write_text(text, encoding="utf-8")


class Score(Onnx):
    """One ONNX file that says what a truth costs."""

    file = "score.onnx"

    def __init__(self, served):
        if served.scoring is None:
            expected = "a model that says what a truth costs"
            raise InputError("format", expected, f"score of a {served.task}", "leave it out")
        super().__init__(served.scoring)

    @property
    def more(self):
        # They turn a text that is longer than memory into ids.
        scores = json.dumps(described(self.served.takes))
        return {"form": "score", "scores": scores, **tokenizers_of(self.served)}
