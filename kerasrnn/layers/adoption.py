"""`adopt`: an existing Keras model, its recurrent layers moved onto the engine."""

from dataclasses import dataclass, field

import keras

from kerasrnn.cells import GRU, LSTM, Cell, Dropout, SimpleRNN
from kerasrnn.compat.keras import is_graph, layers_of
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.recurrent import Recurrent

GATED = ("activation", "recurrent_activation", "use_bias")
# stock layer -> (our cell, the options that carry over)
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
    """What became of the recurrent layers of a model: pairs (layer name, what or why).

    Attributes:
        replaced: by `adopt`, and by what.
        already: what was on the engine before.
        left: as they are, and why.
        nodes: by layer name, the ONNX operator that an export made of it: LSTM, GRU, Scan or Loop.
    """

    replaced: list = field(default_factory=list)
    already: list = field(default_factory=list)
    left: list = field(default_factory=list)
    nodes: dict = field(default_factory=dict)

    def __str__(self):
        said = {"replaced": self.replaced, "already": self.already, "left": self.left}
        lines = [
            f"{word} {name}: {what}"
            + (f", in ONNX {self.nodes[name]}" if name in self.nodes else "")
            for word, pairs in said.items()
            for name, what in pairs
        ]
        return "\n".join(lines) or "no recurrent layers"


def adopt(model, copy=True):
    """The same model, the same weights, the same outputs, running on the recurrence engine.

    Stock `LSTM`, `GRU`, `SimpleRNN`, `RNN` over a kerasrnn cell, and `Bidirectional` around them
    become `Recurrent` and `Bidirectional` of this package. Weights are copied, those of every
    other layer too, so that the old model stays as it is. A compiled model comes back compiled,
    its optimizer at its beginning. In training, `dropout` and `recurrent_dropout` draw one mask
    for all gates. A mask goes on to the next layer where the stock layer of the installed Keras
    passes it on.

    Args:
        model: a built Sequential or functional model, nested ones included.
        copy: False takes the other layers over, the very same objects: what trains the new model
            then changes the old one too.

    Returns:
        The new model; `print(model.adoption)` says what was replaced, what was left, and why.

    Raises:
        ValueError: if the model is not built, is neither Sequential nor functional, or has a layer
            that cannot be copied because it has no `get_config`.

    >>> model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="reader")])
    >>> print(adopt(model).adoption)
    replaced reader: LSTM by Recurrent(LSTM)
    """
    _check(model)
    mover = _Mover(copy)
    adopted = mover.rebuilt(model)
    mover.fill_copies()
    if model.compiled and model.get_compile_config():
        adopted.compile_from_config(model.get_compile_config())
    adopted.adoption = mover.adoption
    return adopted


def _check(model):
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
    """Rebuilds a model with a successor of each layer, nested models too, each layer once."""

    def __init__(self, copy):
        self.copy, self.adoption = copy, Adoption()
        self.successors, self.copies = {}, []  # by id; pairs (layer, its copy)

    def rebuilt(self, model):
        """The model with every layer replaced that can be."""
        if isinstance(model, keras.Sequential):
            return keras.models.clone_model(model, clone_function=self.successor)
        return keras.models.clone_model(model, clone_function=self.successor, call_function=_call)

    def successor(self, layer):
        """What stands in a layer's place: a layer of ours with its weights, a copy, or itself."""
        if id(layer) not in self.successors:
            self.successors[id(layer)] = self._successor(layer)
        return self.successors[id(layer)]

    def _successor(self, layer):
        if not isinstance(layer, keras.layers.Layer):  # an operation of keras.ops
            return layer
        if isinstance(layer, keras.Model) and is_graph(layer):
            return self.rebuilt(layer)
        if not isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
            inner = getattr(layer, "layer", None)
            if isinstance(inner, keras.layers.RNN) or isinstance(layer, keras.Model):
                self.adoption.left.append((layer.name, f"inside {type(layer).__name__}"))
            self.adoption.already += [(one.name, described(one)) for one in recurrences(layer)]
            return self._kept(layer)
        why = _refusal(layer)
        if why:
            self.adoption.left.append((layer.name, why))
            return self._kept(layer)
        ours = _moved(layer)
        what = f"{type(layer).__name__} by {described(ours)}"
        self.adoption.replaced.append((layer.name, what))
        return ours

    def _kept(self, layer):
        """The layer, or its copy where it holds something that training could change."""
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
        """Give the copies, which are built by now, the weights of their layers."""
        for layer, copy in self.copies:
            copy.set_weights(layer.get_weights())
            for one, other in zip(layers_of(layer), layers_of(copy), strict=True):
                other.trainable = one.trainable


def _call(layer, *args, **kwargs):
    """Call a layer as the stock one was called: the second argument was the initial state."""
    if isinstance(layer, (Recurrent, Bidirectional)) and len(args) > 1:
        names = ("initial_state", "mask", "training")
        kwargs |= dict(zip(names, args[1:], strict=False))
        args = args[:1]
    return layer(*args, **kwargs)


def _moved(layer):
    """The layer of ours that does what a stock one does, with its weights."""
    ours = _translated(layer)
    built = layer.get_build_config()
    ours.build(tuple(built.get("input_shape") or built["shapes_dict"]["sequences_shape"]))
    _copy_weights(layer, ours)
    ours.built = True
    ours.trainable = layer.trainable
    return ours


def recurrences(layer) -> list:
    """The layers of ours that recur in a layer, itself among them; a `Bidirectional` is one."""
    ours = [one for one in layers_of(layer) if isinstance(one, (Recurrent, Bidirectional))]
    both = [one for one in ours if isinstance(one, Bidirectional)]
    halves = {id(half) for one in both for half in (one.forward_layer, one.backward_layer)}
    return [one for one in ours if id(one) not in halves]


def _copy_weights(layer, ours):
    """Weights, and what a stateful layer has kept, which is a weight here and none there."""
    pairs = [(layer, ours)]
    if isinstance(ours, Bidirectional):
        pairs = [(getattr(layer, n), getattr(ours, n)) for n in ("forward_layer", "backward_layer")]
    for stock, own in pairs:
        own.cell.set_weights(stock.cell.get_weights())
        for state, kept in zip(stock.states or [], own.kept_states or [], strict=False):
            kept.assign(state)


def described(layer) -> str:
    """A layer of ours that recurs, in a word.

    >>> described(Bidirectional(Recurrent(GRU(3))))
    'Bidirectional(Recurrent(GRU))'
    """
    if isinstance(layer, Bidirectional):
        return f"Bidirectional({described(layer.forward_layer)})"
    inside, cell = type(layer.cell).__name__, getattr(layer.cell, "cell", None)
    inside = inside if cell is None else f"{inside}({type(cell).__name__})"
    return f"Recurrent({inside})"


def _refusal(layer):
    """Why a recurrent layer is left as it is, or None."""
    if isinstance(layer, keras.layers.Bidirectional):
        if type(layer) is not keras.layers.Bidirectional:
            return f"{type(layer).__name__} is a class of its own"
        for inner in (layer.forward_layer, layer.backward_layer):
            why = _refusal(inner)
            if why and why != ZERO_OUTPUT:  # Bidirectional zeroes padding here as there
                return f"its {inner.name}: {why}"
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


def _translated(layer):
    """Our layer for a stock one, without its weights."""
    if isinstance(layer, keras.layers.Bidirectional):
        return Bidirectional(
            _translated(layer.forward_layer),
            _translated(layer.backward_layer),
            merge_mode=layer.merge_mode,
            supports_masking=layer.supports_masking,
            name=layer.name,
            dtype=layer.dtype_policy,
        )
    options = ("return_sequences", "return_state", "go_backwards", "stateful", "supports_masking")
    options = {name: getattr(layer, name) for name in options}
    return Recurrent(_cell(layer), **options, name=layer.name, dtype=layer.dtype_policy)


def _cell(layer):
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
