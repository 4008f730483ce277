"""Private names for layers and models: dtype of weights, inner layers, arguments, outputs."""

import keras
from keras.src.backend.common.variables import AutocastScope
from keras.src.export.export_utils import get_input_signature

from kerasrnn.compat.private import KERAS, Private

__all__ = [
    "AutocastScope",
    "get_input_signature",
    "is_graph",
    "is_inner",
    "layers_of",
    "output_names",
]

PRIVATE = (
    Private(
        "keras.src.backend.common.variables.AutocastScope",
        "A layer's weights are in its compute dtype only inside `call`. The engine, and a step of "
        "the decoder, read them outside of it.",
        KERAS,
        "Keras has a public scope for the dtype in which variables are read",
    ),
    Private(
        "keras.src.export.export_utils.get_input_signature",
        "`keras.Model.export` knows the arguments of every kind of model; nothing public does.",
        KERAS,
        "a model has a public property with the specs of its arguments",
    ),
    Private(
        "keras.Model._flatten_layers",
        "`model.layers` has the outermost layers only, and not those of a subclassed model that "
        "stand in lists or in other layers.",
        KERAS,
        "Keras has a public walk over all layers",
    ),
    Private(
        "keras.src.models.functional.Functional._operations_by_depth",
        "The class of functional models has no public name. `keras.models.clone_model` refuses "
        "every other model but a Sequential.",
        KERAS,
        "Keras exports Functional, or says publicly whether a model can be cloned call by call",
    ),
    Private(
        "keras.Sequential._functional",
        "A Sequential has no `output_names`; the functional model inside of it has.",
        KERAS,
        "Sequential has `output_names`",
    ),
)


def layers_of(model: keras.Model, include_self: bool = True) -> list[keras.layers.Layer]:
    """All layers of a model at every depth, each once; the model itself is the first of them.

    Args:
        model: any Keras model.
        include_self: whether the model stands among them.
    """
    return model._flatten_layers(include_self=include_self)


def is_graph(model: keras.Model) -> bool:
    """Whether the model is Sequential or functional, so that its calls can be walked."""
    return isinstance(model, keras.Sequential) or hasattr(model, "_operations_by_depth")


def output_names(model: keras.Model) -> list[str] | None:
    """Keras's names of the outputs; None for a subclassed model, which does not name them."""
    functional = getattr(model, "_functional", None) or model
    return getattr(functional, "output_names", None)


def is_inner(module: str) -> bool:
    """Whether a module, by its name, is internal to Keras. Saved models may name such modules."""
    return module.split(".")[:2] == ["keras", "src"]
