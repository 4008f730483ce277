"""Cells whose step is no pure function: the loop runs them, and the plan says why."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasrnn import cells
from kerasrnn.engine.purity import impurity_of
from kerasrnn.layers import Recurrent
from tests.catalog import CELLS
from tests.recurrent_cases import everything, float64, scatter, values

B, T, D, H = 2, 5, 3, 4


class Noisy(cells.SimpleRNN):
    """h(t) = tanh(W x + U h) factor(), whatever the factor does."""

    def __init__(self, units, factor, **kwargs):
        super().__init__(units, **kwargs)
        self.factor, self.seeds = factor, keras.random.SeedGenerator(5)

    def step(self, z, h, linear):
        h = ops.tanh(z + linear(h, self.recurrent_kernel)) * self.factor(self)
        return h, h


class Counting(cells.SimpleRNN):
    """Counts its steps in a variable of Keras's and in one of TensorFlow's."""

    def build(self, input_shape):
        super().build(input_shape)
        self.steps = self.add_weight((), trainable=False, name="steps", initializer="zeros")
        self.tf_steps = tf.Variable(0.0)

    def step(self, z, h, linear):
        self.steps.assign_add(1.0)
        self.tf_steps.assign_add(1.0)
        return super().step(z, h, linear)


def seeded(cell):
    return 1 + keras.random.normal((1, H), seed=cell.seeds)


def printing(cell):
    tf.print("step", output_stream="file:///dev/null")
    return 1.0


DRAWS = "its step draws a random number"
IMPURE = {
    "a seed generator": (seeded, DRAWS),
    "Keras's own seed": (lambda cell: 1 + keras.random.normal((1, H)), DRAWS),
    "TensorFlow's random numbers": (
        lambda cell: 1 + tf.random.normal((1, H), dtype=keras.config.floatx()),
        "its step runs TensorFlow's RandomStandardNormal",
    ),
    "random numbers in a branch": (
        lambda cell: tf.cond(tf.constant(True), lambda: tf.random.normal(()), lambda: 1.0),
        "its step runs TensorFlow's RandomStandardNormal",
    ),
    "NumPy's random numbers": (
        lambda cell: 1 + np.random.normal(size=(1, H)),
        "its step computes with other numbers each time it is traced",
    ),
    "printing": (
        printing,
        "its step runs TensorFlow's PrintV2",
    ),
}


@pytest.mark.parametrize("name", IMPURE)
def test_the_loop_runs_what_is_not_pure_and_the_plan_says_why(name):
    factor, why = IMPURE[name]
    layer = Recurrent(Noisy(H, factor))
    layer(values(B, T, D), training=True)
    found = layer.plan(training=True)
    assert found.runner == "loop"
    assert found.reason == f"{why}, so it cannot be run again for the gradient"
    with pytest.raises(ValueError, match=f"runner='replay': {why}, .*; use runner='auto'"):
        Recurrent(Noisy(H, factor), runner="replay")(values(B, T, D), training=True)


def test_the_gradient_of_a_noisy_step_is_that_of_the_numbers_drawn():
    """Against finite differences, the seed put back before each call."""
    with float64():
        layer, x = Recurrent(Noisy(H, seeded), return_sequences=True), values(B, T, D)
        layer(x)
        scatter(layer)
        seed = layer.cell.seeds.state
        first = seed.numpy()

        def loss():
            seed.assign(first)
            return tf.reduce_sum(tf.sin(layer(x, training=True)))

        U = layer.cell.recurrent_kernel
        with tf.GradientTape() as tape:
            value = loss()
        gradient = tape.gradient(value, U.value).numpy()
        before, ε = U.numpy(), 1e-6
        for i, j in ((0, 1), (2, 3)):
            shift = np.zeros_like(before)
            shift[i, j] = ε
            U.assign(before + shift)
            above = loss()
            U.assign(before - shift)
            np.testing.assert_allclose(gradient[i, j], (above - loss()) / (2 * ε), rtol=1e-6)


@pytest.mark.parametrize("traced", [False, True])
def test_a_step_is_run_once_for_each_step(traced):
    layer = Recurrent(Counting(H))
    call = tf.function(layer) if traced else layer
    for count in (1, 2):
        call(values(B, T, D), training=True)
        assert layer.cell.steps.numpy() == layer.cell.tf_steps.numpy() == count * T
    reason = layer.plan(training=True).reason
    assert "assigns the variable 'steps' and runs TensorFlow's AssignAddVariableOp" in reason


def test_only_training_may_be_noisy():
    class Trained(cells.SimpleRNN):
        def project(self, x, training=None):
            z = super().project(x, training=training)
            return z, (ops.ones((1, 1, 1), dtype=z.dtype) if training else None)

        def step(self, z, h, linear):
            z, noisy = z
            y, h = super().step(z, h, linear)
            return (y, h) if noisy is None else (y + keras.random.normal((1, H)), h)

    layer = Recurrent(Trained(H))
    layer.build((None, None, D))
    assert layer.plan(training=True).runner == "loop"
    assert layer.plan(training=False).runner == "replay"


def test_a_wrapper_is_as_impure_as_the_cell_inside():
    layer = Recurrent(cells.Zoneout(Noisy(H, seeded), rate=0.3))
    layer.build((None, None, D))
    assert layer.plan(training=True).runner == "loop"


@pytest.mark.parametrize("name", CELLS)
def test_our_own_cells_are_pure(name):
    layer = Recurrent(CELLS[name]())
    layer.build((None, None, H))
    for training in (False, True):
        assert impurity_of(layer.cell, training) is None
        assert layer.plan(training=training).runner == "replay"


def test_a_subclass_that_steps_otherwise_is_not_cudnns():
    class Doubled(cells.LSTM):
        def step(self, z, state, linear):
            h, state = super().step(z, state, linear)
            return 2 * h, state

    assert cells.LSTM(H).cudnn == "lstm" and Doubled(H).cudnn is None


def test_a_step_that_only_reads_variables_is_replayed():
    """Its gradient is the loop's."""

    class Scaled(cells.SimpleRNN):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight((H,), name="scale", initializer="ones")

        def step(self, z, h, linear):
            scaled = tf.function(lambda h: h * self.scale)
            h = scaled(ops.tanh(z + linear(h, self.recurrent_kernel)))
            return h, h

    with float64():
        fast, slow = Recurrent(Scaled(H)), Recurrent(Scaled(H), runner="loop")
        results = []
        for layer in (fast, slow):
            layer.build((None, None, D))
            scatter(layer)
            results.append(everything(layer, values(B, T, D), training=True))
        assert fast.plan(training=True).runner == "replay"
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
