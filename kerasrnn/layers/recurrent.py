"""A cell run over time, as a Keras layer.

B batch, T time, D input, H units.
"""

import keras
from keras import ops, tree

from kerasrnn.cells import Cell
from kerasrnn.engine.recurrence import Problem, plan, run


@keras.saving.register_keras_serializable(package="kerasrnn")
class Recurrent(keras.layers.Layer):
    """Run a cell over the time axis; what `keras.layers.RNN` is, on the recurrence engine.

    `layer(sequences, mask=None, initial_state=None, constants=None, training=None)`:
    sequences [B, T, ...]; mask bool [B, T]; initial_state with the structure of
    `cell.state_size`; constants a tensor or a tuple of them (each may be nested), handed to
    every step.

    Where the mask is False the state keeps its value and the output repeats the one before it,
    zeros before the first True of a row (whatever the initial state), all as Keras has it.
    A time axis of length zero gives an empty sequence, a last output of zeros, and the initial
    state.

    Args:
        cell: a `kerasrnn.cells.Cell`.
        return_sequences: the outputs [B, T, ...] rather than the last one [B, ...].
        return_state: also the final states, each [B, ...], after the output.
        go_backwards: from the last step to the first; outputs come in that order.
        stateful: begin where the call before ended; needs a fixed batch size.
        runner: "auto" (see `plan`) or "loop", "replay", "cudnn", "symbolic" to force one.
        supports_masking: the next layer gets the mask too, with return_sequences; `adopt` sets
            False where the stock layer of the installed Keras drops it.

    Raises:
        ValueError: on a cell without the protocol, and on inputs of a wrong rank, mask,
            state or constants.

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
        # cuDNN's kernels cannot be compiled by XLA, which Keras switches on by itself on a GPU.
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
                for s in self._initial(sequences_shape[0])
            ]
            self.reset_state()

    def _initial(self, batch_size):
        """The cell's initial state as a flat list."""
        return tree.flatten(self.cell.initial_state(batch_size))

    def plan(self, masked=False, training=False, device=None):
        """Which runner would do the work, and why: a printable `kerasrnn.engine.Plan`."""
        return plan(self.cell, masked, training, device, self.runner)

    def reset_state(self):
        """Begin again from the initial state (with stateful=True)."""
        if self.kept_states:
            batch_size = self.kept_states[0].shape[0]
            for kept, first in zip(self.kept_states, self._initial(batch_size), strict=True):
                kept.assign(first)

    def call(self, sequences, mask=None, initial_state=None, constants=None, training=None):
        problem = self.problem(sequences, mask, initial_state, constants, training)
        return self.finished(*run(problem, self.runner))

    def problem(self, sequences, mask=None, initial_state=None, constants=None, training=None):
        """What a call asks of the engine, a `kerasrnn.engine.recurrence.Problem`, checked."""
        _check_dense(sequences)
        return Problem(
            self.cell,
            sequences,
            self._first_states(sequences, initial_state),
            self._checked_mask(sequences, mask),
            self._checked_constants(constants),
            training=bool(training),
            sequences=self.return_sequences,
            zero_start=initial_state is None and not self.stateful and self.cell.starts_at_zero,
            backwards=self.go_backwards,
        )

    def finished(self, output, states):
        """What a call gives, of the engine's result."""
        for kept, state in zip(self.kept_states or [], tree.flatten(states), strict=False):
            kept.assign(state)
        return (output, *tree.flatten(states)) if self.return_state else output

    def _checked_mask(self, sequences, mask):
        if mask is None:
            return None
        shape, dtype = tuple(mask.shape), keras.backend.standardize_dtype(mask.dtype)
        wanted = tuple(sequences.shape[:2])
        same = len(shape) == 2 and all(
            a is None or b is None or a == b for a, b in zip(shape, wanted, strict=False)
        )
        if not same or dtype != "bool":
            raise ValueError(
                f"mask: expected bool {wanted} (batch, time), received {dtype} {shape}; "
                "for lengths use ops.arange(T) < lengths[:, None]."
            )
        return mask

    def _checked_constants(self, constants):
        """A list or tuple is one constant for each item, anything else is a single one."""
        constants = () if constants is None else constants
        constants = tuple(constants) if type(constants) in (list, tuple) else (constants,)
        constants = self.cell.packed(constants)
        wanted = self.cell.constants_wanted()
        if len(constants) < len(wanted):
            raise ValueError(
                f"constants: expected {len(wanted)} for the cell's {wanted}, received "
                f"{len(constants)}; call layer(x, constants=({', '.join(wanted)},))."
            )
        return constants

    def _first_states(self, sequences, initial_state):
        if initial_state is None and self.kept_states is not None:
            initial_state = [kept.value for kept in self.kept_states]
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
        batch, lead = sequences.shape[0], tuple(sequences.shape[:1])
        lead = tuple(sequences.shape[:2]) if self.return_sequences else lead
        dtype = self.cell.compute_dtype

        def spec(shape):
            return lambda size: keras.KerasTensor((*shape, size), dtype=dtype)

        output = tree.map_structure(spec(lead), self.cell.output_size)
        if not self.return_state:
            return output
        return (output, *map(spec((batch,)), tree.flatten(self.cell.state_size)))

    def compute_mask(self, sequences, mask=None):
        output = mask if self.return_sequences else None
        count = len(tree.flatten(self.cell.state_size)) if self.return_state else 0
        return [output, *[None] * count] if count else output

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
    if getattr(sequences, "ragged", False) or hasattr(sequences, "row_splits"):
        raise ValueError(
            "sequences: expected a dense tensor [batch, time, features], received a ragged one; "
            "give x.to_tensor() and mask=tf.sequence_mask(x.row_lengths())."
        )
