"""`adopt`: the same outputs from the same weights, on the engine."""

import keras
import numpy as np
import pytest
from keras import layers

from kerasrnn.cells import GRU, MUT1
from kerasrnn.compat.keras import layers_of
from kerasrnn.layers import Bidirectional, Recurrent, adopt
from tests.recurrent_cases import scatter, values

H, D = 4, 3


def sequential():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, D, mask_zero=True),
            layers.Bidirectional(layers.LSTM(H, return_sequences=True), merge_mode="sum"),
            layers.GRU(H, reset_after=False, return_sequences=True, dropout=0.2),
            layers.SimpleRNN(H, go_backwards=True, activation="relu"),
            layers.Dense(2),
        ]
    )


def functional():
    x, state = keras.Input((None, D)), keras.Input((H,))
    inner_x = keras.Input((None, D))
    shared = layers.GRU(H, return_sequences=True, name="shared")
    inner = keras.Model(inner_x, layers.LSTM(D, return_sequences=True)(inner_x), name="inner")
    h, last = layers.GRU(H, return_sequences=True, return_state=True)(inner(x), state)
    outputs = layers.Add()([shared(x), shared(inner(x)), h])
    return keras.Model([x, state], [layers.Dense(2)(outputs), last])


IDS = np.array([[3, 5, 0, 0], [2, 8, 4, 1], [7, 0, 0, 0]])
MODELS = {
    "sequential": (sequential, lambda: IDS),
    "functional": (functional, lambda: [values(3, 5, D), values(3, H, seed=1)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_same_outputs_same_weights_after_saving_too(name, tmp_path):
    make, inputs = MODELS[name]
    model = make()
    scatter(model)
    wanted = keras.tree.flatten(model(inputs()))
    adopted = adopt(model)
    assert len(adopted.adoption.replaced) == 3 and not adopted.adoption.left
    for a, b in zip(adopted.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    adopted.save(tmp_path / "model.keras")
    for one in (adopted, keras.models.load_model(tmp_path / "model.keras")):
        stock = (layers.RNN, layers.Bidirectional)
        assert not [layer for layer in layers_of(one) if isinstance(layer, stock)]
        for found, want in zip(keras.tree.flatten(one(inputs())), wanted, strict=True):
            np.testing.assert_allclose(found, want, atol=1e-6)


class MaskSum(layers.Layer):
    """How many steps of each row the mask that arrives keeps, -1 without one."""

    def call(self, x, mask=None):
        if mask is None:
            return -keras.ops.ones_like(x[:, 0, 0])
        return keras.ops.sum(keras.ops.cast(mask, "float32"), axis=1)


@pytest.mark.parametrize("passes", [None, False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_mask_goes_on_where_the_stock_layer_passes_it_on(bidirectional, passes, tmp_path):
    """As the installed Keras does, and as either kind of it would."""
    stock = layers.GRU(H, return_sequences=True)
    stock = layers.Bidirectional(stock) if bidirectional else stock
    if passes is not None:
        stock.supports_masking = passes
    embedding = layers.Embedding(9, D, mask_zero=True)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, stock, MaskSum()])
    wanted = model(IDS).numpy().tolist()
    assert passes is None or wanted == ([2, 4, 1] if passes else [-1] * 3)
    adopted = adopt(model)
    assert adopted(IDS).numpy().tolist() == wanted
    adopted.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", {"MaskSum": MaskSum})
    assert again(IDS).numpy().tolist() == wanted


def test_a_compiled_model_comes_back_compiled_and_learns():
    model = keras.Sequential([keras.Input((None, D)), layers.LSTM(H), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x, y = np.random.default_rng(0).normal(size=(16, 5, D)), np.ones((16, 1))
    adopted = adopt(model)
    losses = adopted.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert isinstance(adopted.optimizer, keras.optimizers.Adam)


def test_training_the_new_model_leaves_the_old_one_as_it_was():
    frozen = layers.Dense(D, name="frozen")
    frozen.trainable = False
    stack = [layers.Embedding(9, D), frozen, layers.LSTM(H), layers.BatchNormalization()]
    stack += [layers.Lambda(lambda x: 2 * x), layers.LSTM(H, bias_regularizer="l2", name="left")]
    stack[4:5] = [layers.RepeatVector(2), stack[4]]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *stack])
    before, wanted = model.get_weights(), model(IDS)
    adopted = adopt(model)
    np.testing.assert_allclose(adopted(IDS), wanted, atol=1e-6)
    assert [v.path for v in adopted.trainable_weights if "frozen" in v.path] == []
    adopted.compile(keras.optimizers.SGD(1.0), "mse")
    adopted.fit(IDS, np.ones((3, H)), epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(adopted(IDS), wanted, atol=1e-3)
    shared = adopt(model, copy=False)
    assert shared.layers[0] is model.layers[0] and adopted.layers[0] is not model.layers[0]


def test_a_layer_that_cannot_be_copied_is_named():
    class Scale(layers.Layer):
        def __init__(self, factor):
            super().__init__(name="scale")
            self.factor = self.add_weight((), initializer="ones")

        def call(self, x):
            return x * self.factor

    model = keras.Sequential([keras.Input((None, D)), Scale(3), layers.GRU(H)])
    with pytest.raises(
        ValueError, match=r"received 'scale', a Scale .* adopt\(model, copy=False\)"
    ):
        adopt(model)
    assert len(adopt(model, copy=False).adoption.replaced) == 1


def test_it_says_what_it_left_and_why():
    cell = GRU(H)
    model = keras.Sequential(
        [
            keras.Input((4, 5, D)),
            layers.TimeDistributed(layers.LSTM(H), name="inside"),
            layers.LSTM(H, kernel_regularizer="l2", return_sequences=True, name="regular"),
            layers.RNN(layers.GRUCell(H), return_sequences=True, name="stock"),
            layers.GRU(H, zero_output_for_mask=True, return_sequences=True, name="zeroing"),
            layers.RNN(cell, return_sequences=True, name="ours"),
            layers.Bidirectional(layers.LSTM(H, bias_constraint="non_neg"), name="both"),
        ]
    )
    report = str(adopt(model).adoption)
    assert "replaced ours: RNN by Recurrent(GRU)" in report
    assert "left inside: inside TimeDistributed" in report
    assert "left regular: it has kernel_regularizer" in report
    assert "left stock: RNN is not a stock LSTM, GRU or SimpleRNN" in report
    assert "left zeroing: zero_output_for_mask=True" in report
    assert "left both: its forward_lstm" in report


def test_names_say_what_became_of_a_layer():
    model = keras.Sequential(
        [
            keras.Input((None, D)),
            layers.Bidirectional(layers.GRU(H, dropout=0.1, return_sequences=True), name="a"),
            layers.GRU(H, dropout=0.1, recurrent_dropout=0.3, seed=5, name="b"),
        ]
    )
    adopted = adopt(model)
    assert str(adopted.adoption).splitlines() == [
        "replaced a: Bidirectional by Bidirectional(Recurrent(Dropout(GRU)))",
        "replaced b: GRU by Recurrent(Dropout(GRU))",
    ]
    first, second = adopted.layers
    assert isinstance(first, Bidirectional) and isinstance(second, Recurrent)
    cell = second.cell
    assert (cell.rate, cell.recurrent_rate, cell.seed) == (0.1, 0.3, 5)


def test_what_was_on_the_engine_before_is_no_model_without_recurrence():
    model = keras.Sequential(
        [
            keras.Input((5, D)),
            Recurrent(GRU(H), return_sequences=True, name="own"),
            Bidirectional(Recurrent(MUT1(H), return_sequences=True), name="both"),
            layers.LSTM(H, name="stock"),
        ]
    )
    once = adopt(model)
    assert str(once.adoption).splitlines() == [
        "replaced stock: LSTM by Recurrent(LSTM)",
        "already own: Recurrent(GRU)",
        "already both: Bidirectional(Recurrent(MUT1))",
    ]
    assert str(adopt(once).adoption).splitlines()[-1] == "already stock: Recurrent(LSTM)"


def test_what_cannot_be_adopted_is_named():
    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match="expected a Sequential or functional"):
        adopt(Own())
    with pytest.raises(ValueError, match="expected a built model, received 'empty'"):
        adopt(keras.Sequential([layers.LSTM(3)], name="empty"))


def test_a_stateful_layer_goes_on_where_it_stood():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    both = layers.Bidirectional(layers.GRU(3, stateful=True, return_sequences=True))
    stack = [both, layers.LSTM(5, stateful=True)]
    model = keras.Sequential([keras.Input(batch_shape=[2, 3, 4]), *stack])
    model(x)
    adopted = adopt(model)
    for _ in range(2):
        np.testing.assert_allclose(adopted(x), model(x), atol=1e-6)
