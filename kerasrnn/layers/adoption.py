"""Move the recurrent layers of an existing Keras model onto the recurrence engine (`adopt`)."""

from dataclasses import dataclass, field

import keras

from kerasrnn.cells import GRU, LSTM, Cell, Dropout, SimpleRNN
from kerasrnn.compat.keras import is_graph, layers_of
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.recurrent import Recurrent

GATED = ("activation", "recurrent_activation", "use_bias")
# Keras layer -> (our cell, the options that both have)
STOCK = {
    keras.layers.LSTM: (LSTM, (*GATED, "unit_forget_bias")),
    keras.layers.GRU: (GRU, (*GATED, "reset_after")),
    keras.layers.SimpleRNN: (SimpleRNN, ("activation", "use_bias")),
}
WEIGHTS = ("kernel", "recurrent", "bias")
INITIALIZERS = tuple(f"{name}_initializer" for name in WEIGHTS)
EXTRAS = tuple(f"{name}_{kind}" for name in WEIGHTS for kind in ("regularizer", "constraint"))
ZERO_OUTPUT = "zero_output_for_mask=True"


@dataclass
class Adoption:
    """A report of what `adopt` did with each recurrent layer of a model.

    Attributes:
        replaced: (layer name, old and new layer) of layers that were replaced.
        already: (layer name, layer) of layers that ran on the engine before.
        left: (layer name, reason) of layers that were left as they are.
        nodes: layer name -> the ONNX operator to which an export turned it: LSTM, GRU, Scan or
            Loop.
    """

    replaced: list = field(default_factory=list)
    already: list = field(default_factory=list)
    left: list = field(default_factory=list)
    nodes: dict = field(default_factory=dict)

    def __str__(self):
        groups = {"replaced": self.replaced, "already": self.already, "left": self.left}
        lines = [
            f"{group} {name}: {detail}"
            + (f", in ONNX {self.nodes[name]}" if name in self.nodes else "")
            for group, pairs in groups.items()
            for name, detail in pairs
        ]
        return "\n".join(lines) or "no recurrent layers"


def adopt(model, copy=True):
    """Return a model with the same weights and outputs that runs on the recurrence engine.

    The Keras layers `LSTM`, `GRU`, `SimpleRNN`, `RNN` over a kerasrnn cell, and `Bidirectional`
    around them become `Recurrent` and `Bidirectional` of this package. All weights of the model
    are copied, so the old model stays as it is. If the model is compiled, the new model is too,
    with a new optimizer. In training, `dropout` and `recurrent_dropout` draw one mask for all
    gates. A layer passes its mask on where the Keras layer that it replaces does so.

    Args:
        model: a built Sequential or functional model; nested models are adopted too.
        copy: False keeps the other layers themselves instead of copies. Then training the new
            model changes the old model too.

    Returns:
        The new model; `print(model.adoption)` lists what was replaced, what was left, and why.

    Raises:
        ValueError: if the model is not built, is neither Sequential nor functional, or has a layer
            that cannot be copied because it has no `get_config`.

    >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="reader")])
    >>> print(adopt(model).adoption)
    replaced reader: LSTM by Recurrent(LSTM)
    """
    _check(model)
    mover = _Mover(copy)
    adopted = mover.rebuild(model)
    mover.fill_copies()
    if model.compiled and model.get_compile_config():
        adopted.compile_from_config(model.get_compile_config())
    adopted.adoption = mover.adoption
    return adopted


def _check(model):
    """Refuse a model that cannot be rebuilt (ValueError)."""
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(
            f"model: expected a Sequential or functional keras.Model, received {model!r}; in a "
            "subclassed model write Recurrent(LSTM(units)) in place of LSTM(units)."
        )
    if not model.built:
        raise ValueError(
            f"model: expected a built model, received {model.name!r} without weights; call it "
            "once, or give it an Input."
        )


class _Mover:
    """Rebuilds a model, and the models in it, with a replacement for each layer."""

    def __init__(self, copy):
        self.copy, self.adoption = copy, Adoption()
        self.replacements = {}  # id of a layer -> its replacement
        self.copies = []  # pairs (layer, its copy)

    def rebuild(self, model):
        """Return the model with a replacement for each layer."""
        if isinstance(model, keras.Sequential):
            return keras.models.clone_model(model, clone_function=self.replacement)
        return keras.models.clone_model(model, clone_function=self.replacement, call_function=_call)

    def replacement(self, layer):
        """Return the layer to use in place of `layer`: one of ours, a copy, or `layer` itself."""
        # A layer that the model uses several times needs one replacement, to share its weights.
        if id(layer) not in self.replacements:
            self.replacements[id(layer)] = self._new_replacement(layer)
        return self.replacements[id(layer)]

    def _new_replacement(self, layer):
        """Choose the replacement of a layer and note it in the report."""
        if not isinstance(layer, keras.layers.Layer):  # an operation of keras.ops
            return layer
        if isinstance(layer, keras.Model) and is_graph(layer):
            return self.rebuild(layer)
        if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
            inner = getattr(layer, "layer", None)
            if isinstance(inner, keras.layers.RNN) or isinstance(layer, keras.Model):
                self.adoption.left.append((layer.name, f"inside {type(layer).__name__}"))
            self.adoption.already += [(r.name, description(r)) for r in recurrences(layer)]
            return self._copy_of(layer)
        reason = _obstacle(layer)
        if reason:
            self.adoption.left.append((layer.name, reason))
            return self._copy_of(layer)
        ours = _convert(layer)
        detail = f"{type(layer).__name__} by {description(ours)}"
        self.adoption.replaced.append((layer.name, detail))
        return ours

    def _copy_of(self, layer):
        """Return a copy of a layer, or the layer itself where it has no variables to train."""
        if not (self.copy and layer.variables):
            return layer
        try:
            copy = type(layer).from_config(layer.get_config())
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                f"model: expected layers that can be copied, received {layer.name!r}, a "
                f"{type(layer).__name__} whose get_config does not tell its arguments; define "
                "get_config, or use adopt(model, copy=False)."
            ) from error
        self.copies.append((layer, copy))
        return copy

    def fill_copies(self):
        """Copy the weights into the copies; only after `rebuild`, which builds the copies."""
        for layer, copy in self.copies:
            copy.set_weights(layer.get_weights())
            for inner, inner_copy in zip(layers_of(layer), layers_of(copy), strict=True):
                inner_copy.trainable = inner.trainable


def _call(layer, *args, **kwargs):
    """Call a replacement with the arguments of the call of the Keras layer."""
    # Our layers take the mask as second argument, those of Keras the initial state.
    if isinstance(layer, (Recurrent, Bidirectional)) and len(args) > 1:
        names = ("initial_state", "mask", "training")
        kwargs |= dict(zip(names, args[1:], strict=False))
        args = args[:1]
    return layer(*args, **kwargs)


def _convert(layer):
    """Return a layer of ours with the behaviour and the weights of a Keras layer."""
    ours = _new_layer(layer)
    shapes = layer.get_build_config()
    # A layer that was called with a state has several build shapes, in "shapes_dict".
    ours.build(tuple(shapes.get("input_shape") or shapes["shapes_dict"]["sequences_shape"]))
    _copy_weights(layer, ours)
    ours.built = True
    ours.trainable = layer.trainable
    return ours


def recurrences(layer) -> list:
    """Return the recurrent layers of ours inside a layer, including the layer itself.

    A `Bidirectional` counts as one layer.
    """
    recurrent = [each for each in layers_of(layer) if isinstance(each, (Recurrent, Bidirectional))]
    bidirectional = [each for each in recurrent if isinstance(each, Bidirectional)]
    halves = {id(half) for b in bidirectional for half in (b.forward_layer, b.backward_layer)}
    return [each for each in recurrent if id(each) not in halves]


def _copy_weights(layer, ours):
    """Copy the weights, and the states that a stateful layer keeps between calls."""
    pairs = [(layer, ours)]
    if isinstance(ours, Bidirectional):
        pairs = [(getattr(layer, n), getattr(ours, n)) for n in ("forward_layer", "backward_layer")]
    for stock_layer, our_layer in pairs:
        our_layer.cell.set_weights(stock_layer.cell.get_weights())
        # The kept states are weights of our layer, but not of the Keras layer.
        states, kept_states = stock_layer.states or [], our_layer.kept_states or []
        for state, kept_state in zip(states, kept_states, strict=False):
            kept_state.assign(state)


def description(layer) -> str:
    """Return a short description of a recurrent layer of ours.

    >>> description(Bidirectional(Recurrent(GRU(3))))
    'Bidirectional(Recurrent(GRU))'
    """
    if isinstance(layer, Bidirectional):
        return f"Bidirectional({description(layer.forward_layer)})"
    name, wrapped_cell = type(layer.cell).__name__, getattr(layer.cell, "cell", None)
    name = name if wrapped_cell is None else f"{name}({type(wrapped_cell).__name__})"
    return f"Recurrent({name})"


def _obstacle(layer):
    """Return why a recurrent layer cannot be replaced, or None if it can."""
    if isinstance(layer, keras.layers.Bidirectional):
        if type(layer) is not keras.layers.Bidirectional:
            return f"{type(layer).__name__} is a class of its own"
        for inner in (layer.forward_layer, layer.backward_layer):
            reason = _obstacle(inner)
            # Inside a Bidirectional both packages set the outputs at padding to zero.
            if reason and reason != ZERO_OUTPUT:
                return f"its {inner.name}: {reason}"
        return None
    if type(layer) is keras.layers.RNN and isinstance(layer.cell, Cell):
        return ZERO_OUTPUT if layer.zero_output_for_mask else None
    if type(layer) not in STOCK:
        return f"{type(layer).__name__} is not a stock LSTM, GRU or SimpleRNN"
    extras = [name for name in EXTRAS if getattr(layer, name) is not None]
    if layer.activity_regularizer is not None:
        extras.append("activity_regularizer")
    if extras:
        return f"it has {', '.join(extras)}"
    return ZERO_OUTPUT if layer.zero_output_for_mask else None


def _new_layer(layer):
    """Return a new layer of ours with the options of a Keras layer, not built yet."""
    if isinstance(layer, keras.layers.Bidirectional):
        return Bidirectional(
            _new_layer(layer.forward_layer),
            _new_layer(layer.backward_layer),
            merge_mode=layer.merge_mode,
            supports_masking=layer.supports_masking,
            name=layer.name,
            dtype=layer.dtype_policy,
        )
    names = ("return_sequences", "return_state", "go_backwards", "stateful", "supports_masking")
    options = {name: getattr(layer, name) for name in names}
    return Recurrent(_cell(layer), **options, name=layer.name, dtype=layer.dtype_policy)


def _cell(layer):
    """Return a new cell of ours with the options of a Keras layer."""
    if type(layer) is keras.layers.RNN:
        return type(layer.cell).from_config(layer.cell.get_config())
    kind, names = STOCK[type(layer)]
    options = {name: getattr(layer, name) for name in (*names, *INITIALIZERS)}
    policy = layer.cell.dtype_policy
    cell = kind(layer.units, **options, dtype=policy)
    if layer.dropout or layer.recurrent_dropout:
        rates = {"rate": layer.dropout, "recurrent_rate": layer.recurrent_dropout}
        cell = Dropout(cell, **rates, seed=layer.cell.seed, dtype=policy)
    return cell
