"""Recurrent state carried from one batch to the next. B batch, H units."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import keras
import tensorflow as tf


class CarriedState(tf.Module):
    """The state at the end of the last batch; the initial state after `reset`, or when the batch
    size changes.

    Each replica keeps its own.

    Args:
        initial_state: rows -> the state before the first batch, a list of [rows, H].
    """

    def __init__(self, initial_state: Callable[[int], list[tf.Tensor]]):
        super().__init__()
        self.initial_state = initial_state
        self.states = [
            tf.Variable(
                tf.zeros([0, state.shape[1]], state.dtype),
                shape=[None, state.shape[1]],
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.NONE,
            )
            for state in initial_state(0)
        ]

    def read(self, rows) -> list[tf.Tensor]:
        """The state of a batch of `rows` rows: a list of [B, H]."""
        pairs = zip(self.states, self.initial_state(rows), strict=True)
        return [self._read(variable, initial, rows) for variable, initial in pairs]

    @staticmethod
    def _read(variable, initial, rows):
        value = tf.convert_to_tensor(variable)
        state = tf.cond(tf.shape(value)[0] == rows, lambda: value, lambda: initial)
        return tf.ensure_shape(state, [None, variable.shape[1]])

    def write(self, state: list[tf.Tensor]) -> None:
        """Keep `state`; no gradient flows into the batch before."""
        for variable, value in zip(self.states, state, strict=True):
            variable.assign(tf.stop_gradient(tf.cast(value, variable.dtype)))

    def numpy(self) -> list:
        """The values, as arrays; replica after replica where there are several."""
        return [local.numpy() for local in self._locals()]

    def assign(self, values: list) -> None:
        """Put back what `numpy` gave."""
        for local, value in zip(self._locals(), values, strict=True):
            local.assign(value)

    def reset(self) -> None:
        for local in self._locals():
            local.assign(tf.zeros([0, local.shape[1]], local.dtype))

    def _locals(self) -> list[tf.Variable]:
        """The variables of each replica on this machine."""
        replicas = [getattr(variable, "values", (variable,)) for variable in self.states]
        return [local for values in zip(*replicas, strict=True) for local in values]


class ResetState(keras.callbacks.Callback):
    """Begin with the initial state where an epoch or an evaluation begins."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.training_state.reset()

    def on_test_begin(self, logs=None):
        self.model.evaluation_state.reset()


def _with_reset(callbacks) -> list:
    """Keras takes one callback as well as a list."""
    return [ResetState(), *keras.tree.flatten([] if callbacks is None else callbacks)]


class CarriesState:
    """A `keras.Model` mixin: `fit` and `evaluate` carry recurrent state from batch to batch.

    The model calls `carry_state_of(initial_state)` once it knows its layers, and in `call` reads
    `self.carried`: None outside training and evaluation, else a `CarriedState`.
    """

    carried: CarriedState | None = None

    def carry_state_of(self, initial_state: Callable[[int], list[tf.Tensor]]) -> None:
        """Carry the state that begins as `initial_state(rows)`, a list of [rows, H]."""
        self.training_state = CarriedState(initial_state)
        self.evaluation_state = CarriedState(initial_state)

    @contextlib.contextmanager
    def _carrying(self, state: CarriedState):
        # While one step is traced; nothing of a batch stays on the model.
        object.__setattr__(self, "carried", state)
        try:
            yield
        finally:
            object.__setattr__(self, "carried", None)

    def stepping(self):
        """What a step of training is inside of."""
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
        if not isinstance(callbacks, keras.callbacks.CallbackList):  # else `fit` calls, with ours
            callbacks = _with_reset(callbacks)
        return super().evaluate(*args, callbacks=callbacks, **kwargs)
