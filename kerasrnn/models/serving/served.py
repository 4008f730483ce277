"""The form of a model that is exported: named tensors in, named tensors out.

B batch.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kerasrnn.kinds import Place

Named = dict[str, tf.Tensor]
# model -> {what was asked: the function that serves it}
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Served:
    """A model as it is exported. A subclass says what goes in and out, and defines `core`.

    A model of numbers needs no more. Around a core of ids stand parts that turn text into ids and
    back (`kerasrnn.text.parts`).

    Args:
        model: what has the variables.

    Attributes:
        task: the name of the task, which the files say.
        title: what a page calls it; its first word is on the button.
        takes, gives: inputs and outputs, in order. A model has `takes` of its own where a kind
            depends on it.
        core_outputs: names of what `core` returns.
        before, behind: the parts around the core.
        search: how it searches, as plain values that JSON can hold; they are what `model.served`
            takes.
        stream: the same model token by token, or None.
        scoring: a `Served` that says what a truth costs, or None. It takes the inputs, the truth
            and states, and gives `nats` and `count` [B] and the states after it.

    >>> import keras
    >>> from kerasrnn.kinds import Number
    >>> class Double(Served):
    ...     task, takes, gives = "double", (Place("x", Number()),), (Place("y", Number()),)
    ...     def core(self, x):
    ...         return 2.0 * x
    >>> Double(keras.Sequential()).serve(tf.constant([1.0, 4.0]))["y"].numpy().tolist()
    [2.0, 8.0]
    """

    task: str = ""
    title: str = ""
    takes: Sequence[Place] = ()
    gives: Sequence[Place] = ()
    before: Sequence = ()
    behind: Sequence = ()
    stream = None
    scoring: Served | None = None

    def __init__(self, model):
        self.model = model

    def core(self, *inputs):
        """Tensors in the order of `core_signature` -> tensors in the order of `core_outputs`."""
        raise NotImplementedError

    @property
    def core_outputs(self) -> Sequence[str]:
        return [place.name for place in self.gives]

    @property
    def search(self) -> dict:
        return {}

    def check(self) -> None:
        """Refuse a model that cannot be exported (InputError)."""
        return None

    @property
    def signature(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of the inputs."""
        return tuple(spec_of(place) for place in self.takes)

    @property
    def core_signature(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of what the core takes: ids int32 [B, T] in the place of each text."""
        ids = {part.text: part.ids for part in self.before}
        return tuple(
            tf.TensorSpec([None, None], tf.int32, ids[spec.name]) if spec.name in ids else spec
            for spec in self.signature
        )

    @property
    def tokenizers(self) -> list:
        """The tokenizers of the inputs and of the outputs."""
        parts = [*self.before, *self.behind]
        return [part.tokenizer for part in parts if hasattr(part, "tokenizer")]

    def serve(self, *inputs) -> Named:
        """The outputs by name, from inputs in the order of `signature`; graph code."""
        named = {}
        for place, value in zip(self.takes, inputs, strict=True):
            if place.kind.refusal:
                tf.debugging.assert_positive(tf.shape(value), place.kind.refusal)
            named[place.name] = value
        for part in self.before:
            named |= part.apply(named)
        found = self.core(*(named[spec.name] for spec in self.core_signature))
        found = found if isinstance(found, (tuple, list)) else [found]
        named |= zip(self.core_outputs, found, strict=True)
        for part in self.behind:
            named |= part.apply(named)
        return {place.name: named[place.name] for place in self.gives}

    @property
    def signatures(self) -> dict[str, tuple[Callable, Sequence[tf.TensorSpec]]]:
        """The signatures of a SavedModel by name: (function, specs of its inputs)."""
        signatures = {"serving_default": (self.serve, self.signature)}
        return signatures if self.scoring is None else {**signatures, **self.scoring.signatures}

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Inputs to check an export with: usual and awkward ones of every kind."""
        random = np.random.default_rng(0)
        columns = {place.name: place.kind.cases(random) for place in self.takes}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @functools.cached_property
    def functions(self) -> dict[frozenset[str], Callable]:
        """The compiled function for each set of inputs."""
        signatures = dict.fromkeys(self.signatures.values())
        return {
            frozenset(spec.name for spec in specs): tf.function(
                function, input_signature=specs, autograph=False
            )
            for function, specs in signatures
        }


def spec_of(place: Place) -> tf.TensorSpec:
    """The spec of the tensor of a place."""
    kind = place.kind
    shape = [size if isinstance(size, int) else None for size in kind.axes]
    dtype = tf.string if kind.dtype == "str" else tf.as_dtype(kind.dtype)
    return tf.TensorSpec([None, *shape] if kind.batched else [], dtype, place.name)


def forget_served(model) -> None:
    """Let the next `served_function` of a model, which has changed, be made anew."""
    _COMPILED.pop(model, None)


def served_function(model, **asked) -> Callable:
    """`model.served(**asked).serve` as a tf.function that is made once and does not hold the model.

    Args:
        model: what has a method `served`.
        asked: its arguments, which can be hashed.
    """
    functions, key = _COMPILED.setdefault(model, {}), tuple(sorted(asked.items()))
    if key not in functions:
        known = weakref.ref(model)

        def serve(*inputs):
            return known().served(**asked).serve(*inputs)

        signature = model.served(**asked).signature
        functions[key] = tf.function(serve, input_signature=signature, autograph=False)
    return functions[key]
