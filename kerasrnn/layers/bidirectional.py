"""Run a recurrent layer over a sequence in both directions (Schuster and Paliwal 1997).

B batch, T time, H units.
"""

from dataclasses import replace

import keras
from keras import ops, tree

from kerasrnn.engine.recurrence import lower_for_export, zero_masked
from kerasrnn.layers.recurrent import Recurrent

MERGES = {
    "concat": lambda a, b: ops.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    None: lambda a, b: (a, b),
}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Bidirectional(keras.layers.Layer):
    """Runs two recurrences over a sequence, one from each end, and merges their outputs.

    `layer(sequences, mask=None, initial_state=None, constants=None, training=None)`; sequences
    [B, T, ...], mask bool [B, T]. With a mask the backward recurrence begins at the last real step
    of each row, because padding does not change a state. The outputs at padded steps are 0, as in
    `keras.layers.Bidirectional`. With `return_state` the result is (output, forward states,
    backward states). `initial_state` is a flat list in the same order.

    Args:
        layer: the forward `Recurrent`.
        backward_layer: the backward `Recurrent`; by default a copy of `layer` with new weights.
        merge_mode: "concat" gives [B, T, 2H]; "sum", "mul" and "ave" give [B, T, H]; None gives a
            pair of outputs.
        supports_masking: whether the next layer gets the mask too, see `Recurrent`.

    Raises:
        ValueError: if a layer is not a `Recurrent`, both layers have the same direction, or the
            merge mode is unknown.

    >>> from kerasrnn.cells import GRU
    >>> Bidirectional(Recurrent(GRU(4), return_sequences=True))(ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    """

    def __init__(
        self, layer, backward_layer=None, merge_mode="concat", supports_masking=True, **kwargs
    ):
        if merge_mode not in MERGES:
            raise ValueError(
                f"merge_mode: expected one of {list(MERGES)}, received {merge_mode!r}; "
                "'concat' keeps the directions apart."
            )
        for received in (layer, backward_layer or layer):
            if not isinstance(received, Recurrent):
                raise ValueError(
                    f"layer: expected a kerasrnn.layers.Recurrent, received {received!r}; "
                    "wrap a cell: Bidirectional(Recurrent(LSTM(256)))."
                )
        super().__init__(**kwargs)
        self.forward_layer = layer
        self.backward_layer = backward_layer or self._reversed_copy(layer)
        self.merge_mode = merge_mode
        self.supports_masking = supports_masking
        self.supports_jit = layer.supports_jit
        if self.backward_layer.go_backwards == layer.go_backwards:
            raise ValueError(
                f"backward_layer: expected go_backwards={not layer.go_backwards}, received "
                f"{layer.go_backwards} as in the forward layer; set it in one of them."
            )

    @staticmethod
    def _reversed_copy(layer):
        """Return a new layer like `layer`, with the other direction and its own weights."""
        config = layer.get_config()
        config["go_backwards"] = not config["go_backwards"]
        config["name"] = "backward_" + config["name"]
        return Recurrent.from_config(config)

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
                layer.built = True

    def reset_state(self):
        """Set the kept states to the initial states (with stateful=True)."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def call(self, sequences, mask=None, initial_state=None, constants=None, training=None):
        layers = (self.forward_layer, self.backward_layer)
        pairs = list(zip(layers, self._halves(initial_state), strict=True))
        options = {"mask": mask, "constants": constants, "training": training}
        # An export can run both directions as one operator. Otherwise they run one by one.
        exported = self._exported_results(sequences, pairs, options)
        if exported is not None:
            return self._merge(*exported)
        forward, backward = (
            layer(sequences, initial_state=states, **options) for layer, states in pairs
        )
        return self._merge(forward, self._flip(backward), mask=mask)

    def _exported_results(self, sequences, pairs, options):
        """Return the results of both layers where an export runs them as one operator, else None.

        Both outputs are in the order of time, with zeros at padded steps.
        """
        if self.forward_layer.go_backwards:  # ONNX's operator has forwards first
            return None
        results = lower_for_export(
            replace(layer.problem(sequences, initial_state=states, **options), zero_padding=True)
            for layer, states in pairs
        )
        if results is None:
            return None
        return [layer.finished(*result) for (layer, _), result in zip(pairs, results, strict=True)]

    def _flip(self, result):
        """Return the backward layer's result with its outputs in the order of the forward layer."""
        if not self.forward_layer.return_sequences:
            return result
        output, *states = result if self.backward_layer.return_state else (result,)
        # The layer returns its outputs in the order in which it computes them.
        output = tree.map_structure(lambda o: ops.flip(o, axis=1), output)
        return (output, *states) if states else output

    def _halves(self, initial_state):
        """Split a flat initial state into the forward and the backward states."""
        if initial_state is None:
            return None, None
        flat = tree.flatten(initial_state)
        count = len(tree.flatten(self.forward_layer.cell.state_size))
        if len(flat) != 2 * count:
            raise ValueError(
                f"initial_state: expected {2 * count} tensors, the forward states and then the "
                f"backward ones, received {len(flat)}; concatenate the two lists."
            )
        return flat[:count], flat[count:]

    def _merge(self, forward, backward, mask=None):
        """Merge the results of both layers, and set the outputs at padded steps to 0."""
        forward, *states = forward if self.forward_layer.return_state else (forward,)
        backward, *backward_states = backward if self.backward_layer.return_state else (backward,)
        merge = MERGES[self.merge_mode]
        pairs = zip(tree.flatten(forward), tree.flatten(backward), strict=True)
        merged = [merge(a, b) for a, b in pairs]
        # A `Recurrent` repeats its output at padding; Keras's Bidirectional has zeros there.
        if mask is not None and self.forward_layer.return_sequences:
            merged = tree.map_structure(lambda m: zero_masked(m, mask), merged)
        output = tree.pack_sequence_as(forward, merged) if self.merge_mode else merged[0]
        return (output, *states, *backward_states) if states else output

    def compute_output_spec(
        self, sequences, mask=None, initial_state=None, constants=None, training=None
    ):
        layers = (self.forward_layer, self.backward_layer)
        return self._merge(*[layer.compute_output_spec(sequences) for layer in layers])

    def compute_mask(self, sequences, mask=None):
        return self.forward_layer.compute_mask(sequences, mask)

    def get_config(self):
        config = {
            "layer": keras.saving.serialize_keras_object(self.forward_layer),
            "backward_layer": keras.saving.serialize_keras_object(self.backward_layer),
            "merge_mode": self.merge_mode,
            "supports_masking": self.supports_masking,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        layers = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("layer", "backward_layer")
        }
        return cls(**{**config, **layers})
