"""Carry recurrent state from one batch to the next. B batch, H units."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf


class CarriedState(tf.Module):
    """The state at the end of the last batch, with which the next batch begins.

    After `reset`, or when the batch size changes, it is the initial state. Each replica keeps a
    state of its own.

    Args:
        initial_state: rows -> the state before the first batch, a list of [rows, H].
    """

    def __init__(self, initial_state: Callable[[int], list[tf.Tensor]]):
        super().__init__()
        self.initial_state = initial_state
        self.states = [_local_variable(state, [None, state.shape[1]]) for state in initial_state(0)]
        # The rows of the states; 0 is "no state yet". The shape of a state cannot tell: `write`
        # makes TensorFlow's graph optimizer believe that a state has the batch's rows always, and
        # it then takes the comparison in `_read` for true (seen with Keras 3.16's `fit`).
        self.rows = _local_variable(tf.zeros([], tf.int64), [])

    def read(self, rows) -> list[tf.Tensor]:
        """Return the state for a batch of `rows` rows, a list of [B, H]."""
        pairs = zip(self.states, self.initial_state(rows), strict=True)
        return [self._read(variable, initial, rows) for variable, initial in pairs]

    def _read(self, variable, initial, rows):
        value = tf.convert_to_tensor(variable)
        kept = tf.convert_to_tensor(self.rows) == tf.cast(rows, tf.int64)
        state = tf.cond(kept, lambda: value, lambda: initial)
        return tf.ensure_shape(state, [None, variable.shape[1]])

    def write(self, state: list[tf.Tensor]) -> None:
        """Keep `state`, without its gradient: training does not reach back into earlier batches."""
        for variable, value in zip(self.states, state, strict=True):
            variable.assign(tf.stop_gradient(tf.cast(value, variable.dtype)))
        self.rows.assign(tf.shape(state[0], out_type=tf.int64)[0])

    def numpy(self) -> list:
        """Return the values as arrays, one replica after the other."""
        return [local.numpy() for local in self._locals()]

    def assign(self, values: list) -> None:
        """Set the values that `numpy` returned."""
        for local, value in zip(self._locals(), values, strict=True):
            local.assign(value)
        per_replica = len(self.states)
        for rows, state in zip(_values(self.rows), values[::per_replica], strict=True):
            rows.assign(len(state))

    def reset(self) -> None:
        """Begin with the initial state in the next batch."""
        for local in self._locals():
            local.assign(tf.zeros([0, local.shape[1]], local.dtype))
        for rows in _values(self.rows):
            rows.assign(0)

    def _locals(self) -> list[tf.Variable]:
        """Return the variables of the replicas on this machine, one replica after the other."""
        replicas = zip(*map(_values, self.states), strict=True)
        return [local for states in replicas for local in states]


def _local_variable(value: tf.Tensor, shape: list) -> tf.Variable:
    """Make a variable of which each replica has one of its own."""
    return tf.Variable(
        value,
        shape=shape,
        trainable=False,
        # ON_READ gives each replica its own, and NONE keeps TensorFlow from summing them.
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.NONE,
    )


def _values(variable) -> tuple:
    """Return the variables of this machine's replicas that `variable` stands for."""
    return getattr(variable, "values", (variable,))


class ResetState(keras.callbacks.Callback):
    """Resets the carried state at the beginning of an epoch or an evaluation."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.training_state.reset()

    def on_test_begin(self, logs=None):
        self.model.evaluation_state.reset()


def _with_reset(callbacks) -> list:
    """Return the callbacks of a user, one or a list or None, with a `ResetState` before them."""
    return [ResetState(), *keras.tree.flatten([] if callbacks is None else callbacks)]


class CarriesState:
    """A `keras.Model` mixin: `fit` and `evaluate` carry recurrent state from batch to batch.

    The model calls `carry_state_of(initial_state)` when its layers exist. In `call` it reads
    `self.carried`: a `CarriedState` in training and evaluation, else None.
    """

    carried: CarriedState | None = None

    def carry_state_of(self, initial_state: Callable[[int], list[tf.Tensor]]) -> None:
        """Make the carried states; they begin as `initial_state(rows)`, a list of [rows, H]."""
        # Evaluation within training must not disturb the state of the training.
        self.training_state = CarriedState(initial_state)
        self.evaluation_state = CarriedState(initial_state)

    @contextlib.contextmanager
    def _carrying(self, state: CarriedState):
        """Set `self.carried` while one step is traced."""
        object.__setattr__(self, "carried", state)
        try:
            yield
        finally:
            object.__setattr__(self, "carried", None)

    def stepping(self):
        """Return the context in which a training step runs."""
        return self._carrying(self.training_state)

    def train_step(self, data):
        with self.stepping():
            return super().train_step(data)

    def test_step(self, data):
        with self._carrying(self.evaluation_state):
            return super().test_step(data)

    def fit(self, *args, callbacks=None, **kwargs):
        return super().fit(*args, callbacks=_with_reset(callbacks), **kwargs)

    def evaluate(self, *args, callbacks=None, **kwargs):
        # A CallbackList comes from `fit`, which has added the reset already.
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = _with_reset(callbacks)
        return super().evaluate(*args, callbacks=callbacks, **kwargs)
