"""Record and replay against the plain loop: outputs, states and every gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasrnn.cells import GRU, LSTM, Cell
from kerasrnn.engine.backward import Matrix
from kerasrnn.layers import Recurrent
from tests.recurrent_cases import everything, float64, mask_of, scatter, values, worst

H, D = 4, 3


class Everything(Cell):
    """What a cell may do: nested state and output, direct weights, shared z, constants."""

    state_size = (H, (H, H))
    output_size = (H, H, 2)

    def build(self, input_shape):
        self.kernel = self.add_weight((D, H), name="kernel")
        self.a = self.add_weight((H, 2 * H), name="a")
        self.b = self.add_weight((2 * H, H), name="b")
        self.direct = self.add_weight((H,), name="direct")
        self.scale = self.add_weight((D, H), name="scale")

    def project(self, x, training=None):
        return ops.matmul(x, self.kernel), (ops.matmul(ops.mean(x, 0, True), self.scale), None)

    def step(self, z, state, linear, memory):
        z, (shared, _) = z
        h, (c, n) = state
        keys, allowed = memory
        score = ops.where(allowed, ops.einsum("bh,bsh->bs", h, keys), -1e9)
        read = ops.einsum("bs,bsh->bh", ops.softmax(score), keys)
        y = linear(ops.tanh(z + read * self.direct), self.a)
        h = ops.tanh(linear(y * shared[:, :1], self.b, (1, H)) @ ops.ones((H - 1, H), y.dtype))
        c = c * ops.sigmoid(linear(h, self.a, (0, H)) + n)
        return (h, ops.concatenate([c[:, :2], n[:, 2:]], -1), y[:, :2]), (h, (c, n + read))


def prepared(cell, **options):
    layer = Recurrent(cell, return_state=True, **options)
    layer.build((None, None, D))
    scatter(layer)
    return layer


def both(layer, x, **options):
    layer.runner = "loop"
    wanted = everything(layer, x, **options)
    layer.runner = "replay"
    return everything(layer, x, **options), wanted


@pytest.mark.parametrize("kind", ["none", "holes"])
@pytest.mark.parametrize("sequences", [True, False])
def test_equals_the_loop_for_a_cell_that_does_everything(sequences, kind):
    with float64():
        layer = prepared(Everything(), return_sequences=sequences)
        allowed = tf.constant([[True, True, False], [True, True, True], [True, False, False]])
        options = {
            "constants": ((values(3, 3, H, seed=2), allowed),),
            "initial_state": (values(3, H, seed=3), (values(3, H, seed=4), values(3, H, seed=5))),
            "mask": mask_of(kind),
        }
        for training in (True, False):
            found, wanted = both(layer, values(3, 5, D), training=training, **options)
            assert worst(found, wanted) < 1e-12


class Reader(Cell):
    """Layers inside the step, and a memory of unknown length read at every step."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size, self.output_size = 89, (89, None)
        self.query = keras.layers.Dense(D)
        self.norm = keras.layers.LayerNormalization()

    def build(self, input_shape):
        self.query.build((None, 89))
        self.norm.build((None, 89))
        self.kernel = self.add_weight((D, 89), name="kernel")
        self.recurrent_kernel = self.add_weight((89, 89), name="recurrent_kernel")

    def project(self, x, training=None):
        return ops.matmul(x, self.kernel)

    def step(self, z, h, linear, memory):
        weights = ops.softmax(ops.einsum("bd,bsd->bs", self.query(h), memory))
        read = ops.einsum("bs,bsd->bd", weights, memory)
        h = ops.tanh(z + self.norm(linear(h, self.recurrent_kernel)) + ops.sum(read, -1, True))
        return (h, weights), h


@pytest.mark.parametrize("sequences", [True, False])
def test_layers_in_a_step_and_a_memory_of_unknown_length_in_a_functional_model(sequences):
    x, memory, mask = (
        keras.Input((None, D)),
        keras.Input((None, D)),
        keras.Input((None,), dtype=bool),
    )
    layer = Recurrent(Reader(), return_sequences=sequences)
    outputs, weights = layer(x, mask=mask, constants=memory)
    model = keras.Model([x, memory, mask], [outputs, weights])
    scatter(model)
    given = [values(3, 5, D), values(3, 4, D, seed=1), mask_of("holes")]
    found = {}
    for runner in ("loop", "replay"):
        layer.runner = runner

        @tf.function
        def traced(x, memory, mask):
            with tf.GradientTape() as tape:
                tape.watch([x, memory])
                outputs = model([x, memory, mask], training=True)
                loss = sum(tf.reduce_sum(tf.sin(3 * o)) for o in outputs)
            return outputs, tape.gradient(loss, [x, memory, *model.trainable_weights])

        shapes = [tf.TensorSpec((None, None, D))] * 2 + [tf.TensorSpec((None, None), "bool")]
        found[runner] = [
            t.numpy() for t in tf.nest.flatten(traced.get_concrete_function(*shapes)(*given))
        ]
    assert found["loop"][1].shape == ((3, 5, 4) if sequences else (3, 4))
    assert worst(found["replay"], found["loop"]) < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 37])
def test_equals_the_loop_at_every_length(steps):
    with float64():
        layer = prepared(GRU(H, reset_after=False), return_sequences=True)
        found, wanted = both(layer, values(2, steps, D), training=True)
        assert worst(found, wanted) < 1e-12


def test_a_large_weight_gets_more_columns(monkeypatch):
    monkeypatch.setattr(Matrix, "LARGE", 1)
    assert Matrix(tf.ones((2, 3))).W.shape == (2, 3 + Matrix.MORE)
    with float64():
        layer = prepared(GRU(H, reset_after=False), return_sequences=True)
        for training in (True, False):
            found, wanted = both(layer, values(2, 3, D), training=training)
            assert worst(found, wanted) < 1e-12


@pytest.mark.parametrize("jit", [False, True])
def test_unknown_sizes_in_a_graph(jit):
    with float64():
        layer = prepared(LSTM(H), return_sequences=True)
        wanted = everything(layer, values(3, 5, D), mask=mask_of("right"), training=True)
        signature = [tf.TensorSpec([None, None, D], "float64"), tf.TensorSpec([None, None], "bool")]

        @tf.function(input_signature=signature, jit_compile=jit)
        def traced(x, mask):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, mask=mask, training=True)
                loss = tf.add_n(
                    [
                        tf.reduce_sum(tf.sin(o) * weight)
                        for o, weight in zip(outputs, upstream, strict=True)
                    ]
                )
            return [*outputs, *tape.gradient(loss, [x, *layer.trainable_weights])]

        shapes = [(3, 5, H), (3, H), (3, H)]
        upstream = [values(*shape, seed=11 + i) for i, shape in enumerate(shapes)]
        found = traced(values(3, 5, D), mask_of("right"))
        assert worst([f.numpy() for f in found], wanted) < 1e-12


def test_carried_state_in_a_train_step():
    layer = prepared(LSTM(H), return_sequences=True)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(layer.trainable_variables)

    @tf.function
    def train(x, state):
        with tf.GradientTape() as tape:
            outputs, *state = layer(x, initial_state=state, training=True)
            loss = tf.reduce_mean(tf.square(outputs - 0.3))
        gradients = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        return loss, [tf.stop_gradient(s) for s in state]

    state = [values(3, H, seed=1), values(3, H, seed=2)]
    first, carried = train(values(3, 5, D), state)
    assert np.abs(carried[0] - state[0]).max() > 0.01
    for _ in range(5):
        loss, carried = train(values(3, 5, D), carried)
    assert loss < first


def test_a_trace_learns_only_what_is_trainable():
    layer = prepared(LSTM(H))
    layer.cell.trainable = False
    with tf.GradientTape() as tape:
        x = values(2, 4, D)
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True)[0])
    assert layer.trainable_weights == []
    assert np.abs(tape.gradient(loss, x)).max() > 0


def test_second_order_is_refused_here_and_right_in_the_loop():
    x, eps = values(2, 3, D), 1e-3

    def second(layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=True)[0] ** 2)
            slope = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return slope, outer.gradient(slope, x)

    layer = prepared(LSTM(H), runner="replay")
    with pytest.raises(NotImplementedError, match="no second-order gradients; use Recurrent"):
        second(layer)
    layer.runner = "loop"
    slope, gradient = second(layer)
    moved = x.numpy()
    moved[1, 2, 0] += eps
    x = tf.constant(moved)
    np.testing.assert_allclose((second(layer)[0] - slope) / eps, gradient[1, 2, 0], rtol=0.02)


def test_a_persistent_tape_over_a_function_is_first_order():
    layer = prepared(LSTM(H), runner="replay")
    traced = tf.function(lambda x: layer(x, training=True)[0])
    x = values(2, 3, D)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = traced(x)
    layer.runner = "loop"
    with tf.GradientTape() as plain:
        plain.watch(x)
        wanted = layer(x, training=True)[0]
    assert worst([tape.gradient(output, x).numpy()], [plain.gradient(wanted, x).numpy()]) < 1e-5


def test_a_weight_of_another_layer_is_refused():
    class Stray(Cell):
        state_size = output_size = D

        def project(self, x, training=None):
            return x

        def step(self, z, h, linear):
            h = z + linear(h, STRAY)
            return h, h

    STRAY = keras.Variable(np.eye(D), name="stray")
    with pytest.raises(ValueError, match="expected a weight of the cell, received stray of"):
        Recurrent(Stray(), runner="replay")(values(2, 3, D), training=True)
