"""Run a cell over time, as a Keras layer.

B batch, T time, D input, H units.
"""

import keras
from keras import ops, tree

from kerasrnn.cells import Cell
from kerasrnn.engine.recurrence import Problem, plan, run


@keras.saving.register_keras_serializable(package="kerasrnn")
class Recurrent(keras.layers.Layer):
    """Runs a cell over the time axis, like `keras.layers.RNN`, on the recurrence engine.

    `layer(sequences, mask=None, initial_state=None, constants=None, training=None)`:
    sequences [B, T, ...]; mask bool [B, T]; initial_state with the structure of
    `cell.state_size`; constants a tensor or a tuple of them (each may be nested), which every
    step gets.

    As in Keras, where the mask is False the state keeps its value and the output repeats the
    output before. Before the first True of a row the output is 0, whatever the initial state.
    A time axis of length 0 gives an empty sequence, a last output of zeros, and the initial
    state.

    Args:
        cell: a `kerasrnn.cells.Cell`.
        return_sequences: return all outputs [B, T, ...] instead of the last one [B, ...].
        return_state: also return the final states, each [B, ...], after the output.
        go_backwards: run from the last step to the first; the outputs come in that order.
        stateful: begin with the final state of the last call; needs a fixed batch size.
        runner: "auto" (see `plan`) or "loop", "replay", "cudnn", "symbolic" to force one.
        supports_masking: whether the next layer gets the mask too, with return_sequences. `adopt`
            sets False where the layer of the installed Keras drops the mask.

    Raises:
        ValueError: if the cell is no `Cell`, or if the rank of the inputs, the mask, the state or
            the constants are wrong.

    >>> from kerasrnn.cells import LSTM
    >>> layer = Recurrent(LSTM(4), return_sequences=True)
    >>> layer(ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    >>> print(layer.plan(device="CPU").runner)
    replay
    """

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        runner="auto",
        supports_masking=True,
        **kwargs,
    ):
        if not isinstance(cell, Cell):
            raise ValueError(
                "cell: expected a kerasrnn.cells.Cell with project(x) and step(z, state, linear), "
                f"received {cell!r}; derive it from Cell, or use keras.layers.RNN for it."
            )
        cell.check_step()
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.runner = runner
        self.supports_masking = supports_masking
        # Keras turns XLA on by itself on a GPU, and XLA cannot compile cuDNN's kernels.
        self.supports_jit = self.plan(training=True).runner != "cudnn"
        self.kept_states = None

    def build(self, sequences_shape, initial_state_shape=None, constants_shape=None):
        if len(sequences_shape) < 3:
            raise ValueError(
                f"sequences: expected [batch, time, features], received shape "
                f"{tuple(sequences_shape)}; a recurrent layer before this one needs "
                "return_sequences=True, other inputs a time axis."
            )
        if not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
            self.cell.built = True
        if self.stateful:
            if sequences_shape[0] is None:
                raise ValueError(
                    f"stateful=True: expected a fixed batch size, received shape "
                    f"{tuple(sequences_shape)}; give Input(batch_shape=...)."
                )
            self.kept_states = [
                self.add_weight(s.shape, initializer="zeros", trainable=False, name="state")
                for s in self._initial_states(sequences_shape[0])
            ]
            self.reset_state()

    def _initial_states(self, batch_size):
        """Return the initial states of the cell as a flat list."""
        return tree.flatten(self.cell.initial_state(batch_size))

    def plan(self, masked=False, training=False, device=None):
        """Return which runner would be used and why, as a printable `kerasrnn.engine.Plan`.

        Args:
            masked: whether the call has a mask.
            training: whether gradients are needed.
            device: "CPU" or "GPU"; by default "GPU" where this process sees one.
        """
        return plan(self.cell, masked, training, device, self.runner)

    def reset_state(self):
        """Set the kept state to the initial state (with stateful=True)."""
        if self.kept_states:
            initial_states = self._initial_states(self.kept_states[0].shape[0])
            for kept_state, initial_state in zip(self.kept_states, initial_states, strict=True):
                kept_state.assign(initial_state)

    def call(self, sequences, mask=None, initial_state=None, constants=None, training=None):
        problem = self.problem(sequences, mask, initial_state, constants, training)
        return self.finished(*run(problem, self.runner))

    def problem(self, sequences, mask=None, initial_state=None, constants=None, training=None):
        """Check the arguments of a call and return them as a `Problem` for the engine.

        Raises:
            ValueError: as the class says.
        """
        _check_dense(sequences)
        return Problem(
            self.cell,
            sequences,
            self._first_states(sequences, initial_state),
            self._checked_mask(sequences, mask),
            self._checked_constants(constants),
            training=bool(training),
            sequences=self.return_sequences,
            # Only initial states that are certainly zeros: some runners and exports use it.
            zero_start=initial_state is None and not self.stateful and self.cell.starts_at_zero,
            backwards=self.go_backwards,
        )

    def finished(self, output, states):
        """Return the result of a call from the engine's result, and keep the states if stateful."""
        # strict=False, because a layer that is not stateful keeps no states.
        for kept_state, state in zip(self.kept_states or [], tree.flatten(states), strict=False):
            kept_state.assign(state)
        return (output, *tree.flatten(states)) if self.return_state else output

    def _checked_mask(self, sequences, mask):
        """Return the mask if it is bool [B, T] or None."""
        if mask is None:
            return None
        shape, dtype = tuple(mask.shape), keras.backend.standardize_dtype(mask.dtype)
        expected_shape = tuple(sequences.shape[:2])
        same = len(shape) == 2 and all(  # None is a size that is not known yet
            a is None or b is None or a == b for a, b in zip(shape, expected_shape, strict=False)
        )
        if not same or dtype != "bool":
            raise ValueError(
                f"mask: expected bool {expected_shape} (batch, time), received {dtype} {shape}; "
                "for lengths use ops.arange(T) < lengths[:, None]."
            )
        return mask

    def _checked_constants(self, constants):
        """Return the constants as a tuple with one item for each constant of the cell.

        A list or tuple holds one constant in each item. Anything else is a single constant.
        """
        constants = () if constants is None else constants
        # Not isinstance: a named tuple is one nested constant.
        constants = tuple(constants) if type(constants) in (list, tuple) else (constants,)
        constants = self.cell.pack_constants(constants)
        names = self.cell.constant_names()
        if len(constants) < len(names):
            raise ValueError(
                f"constants: expected {len(names)} for the cell's {names}, received "
                f"{len(constants)}; call layer(x, constants=({', '.join(names)},))."
            )
        return constants

    def _first_states(self, sequences, initial_state):
        """Return the states before the first step, in the structure of the cell's state."""
        if initial_state is None and self.kept_states is not None:
            initial_state = [kept_state.value for kept_state in self.kept_states]
        batch = ops.shape(sequences)[0]
        if initial_state is None:
            return self.cell.initial_state(batch)
        size = self.cell.state_size
        flat, sizes = tree.flatten(initial_state), tree.flatten(size)
        shapes = [tuple(s.shape) for s in flat]
        if [s[-1] for s in shapes] != sizes:
            raise ValueError(
                f"initial_state: expected {len(sizes)} tensors [batch, size] with sizes {sizes}, "
                f"received shapes {shapes}; give them in the order of cell.state_size={size}."
            )
        flat = [ops.cast(s, self.cell.compute_dtype) for s in flat]
        return tree.pack_sequence_as(size, flat)

    def compute_output_spec(
        self, sequences, mask=None, initial_state=None, constants=None, training=None
    ):
        _check_dense(sequences)
        self._checked_constants(constants)
        batch_shape = tuple(sequences.shape[:1])
        output_shape = tuple(sequences.shape[:2]) if self.return_sequences else batch_shape
        dtype = self.cell.compute_dtype

        def spec(shape):
            return lambda size: keras.KerasTensor((*shape, size), dtype=dtype)

        output = tree.map_structure(spec(output_shape), self.cell.output_size)
        if not self.return_state:
            return output
        return (output, *map(spec(batch_shape), tree.flatten(self.cell.state_size)))

    def compute_mask(self, sequences, mask=None):
        output_mask = mask if self.return_sequences else None
        state_count = len(tree.flatten(self.cell.state_size)) if self.return_state else 0
        # Keras wants a mask for each result; a state has no time axis, so its mask is None.
        return [output_mask, *[None] * state_count] if state_count else output_mask

    def get_config(self):
        config = {
            "cell": keras.saving.serialize_keras_object(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "runner": self.runner,
            "supports_masking": self.supports_masking,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        cell = keras.saving.deserialize_keras_object(config["cell"])
        return cls(**{**config, "cell": cell})


def _check_dense(sequences):
    """Refuse a ragged tensor (ValueError)."""
    if getattr(sequences, "ragged", False) or hasattr(sequences, "row_splits"):
        raise ValueError(
            "sequences: expected a dense tensor [batch, time, features], received a ragged one; "
            "give x.to_tensor() and mask=tf.sequence_mask(x.row_lengths())."
        )
