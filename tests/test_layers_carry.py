"""State that goes from batch to batch: where it is kept, where it is zero, who sees it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.cells import CELLS, GRU
from kerasrnn.layers.carry import CarriedState, CarriesState
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.text.tokenizers import CharTokenizer


def zeros(*sizes, dtype="float32"):
    """The initial state of `CarriedState`: zeros of these sizes."""
    return lambda rows: [tf.zeros([rows, size], dtype) for size in sizes]


class Summing(CarriesState, keras.Model):
    """Adds up, row by row, all it has seen: the state is the sum of w * x so far, times 1/2."""

    def __init__(self, sizes=(2,)):
        super().__init__()
        self.w = self.add_weight(shape=(), initializer=keras.initializers.Constant(3.0), name="w")
        self.carry_state_of(zeros(*sizes))
        self.supports_jit = False
        self.built = True

    def call(self, x):
        if self.carried is None:
            return self.w * x
        (before,) = self.carried.read(tf.shape(x)[0])
        state = 0.5 * before + self.w * x
        self.carried.write([state])
        return state


class Seen(keras.callbacks.Callback):
    """The carried states behind each batch."""

    def __init__(self):
        super().__init__()
        self.training, self.evaluation, self.at_epoch_end = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.training.append(self.model.training_state.numpy()[0])

    def on_test_batch_end(self, batch, logs=None):
        self.evaluation.append(self.model.evaluation_state.numpy()[0])

    def on_epoch_end(self, epoch, logs=None):
        self.at_epoch_end.append(self.model.training_state.numpy()[0])


def mean_output(y, y_pred):
    return tf.reduce_mean(y_pred)


def frozen(rate=0.0, **options) -> Summing:
    model = Summing()
    model.compile(keras.optimizers.SGD(rate), loss=mean_output, **options)
    return model


def inputs(*batches: int) -> list[np.ndarray]:
    random = np.random.default_rng(len(batches))
    return [random.normal(size=(rows, 2)).astype("float32") + 2 for rows in batches]


def data(arrays) -> tf.data.Dataset:
    def generate():
        for x in arrays:
            yield x.copy(), x.copy()  # TensorFlow may write into what it is given

    spec = tf.TensorSpec([None, 2])
    return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec))


def sums(arrays) -> list[np.ndarray]:
    """The reference: state after each batch, anew where the number of rows changes."""
    states, before = [], None
    for x in arrays:
        fits = before is not None and before.shape == x.shape
        before = 3.0 * x + (0.5 * before if fits else 0.0)
        states.append(before)
    return states


def assert_all_close(found, wanted):
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# --- the state itself ---


def test_a_state_is_zero_until_it_is_written_and_after_a_reset():
    carried = CarriedState(zeros(2, 3))
    assert [s.numpy().tolist() for s in carried.read(1)] == [[[0, 0]], [[0, 0, 0]]]
    carried.write([tf.fill([2, 2], 5.0), tf.fill([2, 3], 7.0)])
    assert [s.numpy().tolist() for s in carried.read(2)] == [[[5, 5]] * 2, [[7, 7, 7]] * 2]
    carried.reset()
    assert [s.numpy().tolist() for s in carried.read(2)] == [[[0, 0]] * 2, [[0, 0, 0]] * 2]


def test_another_number_of_rows_begins_with_zeros():
    carried = CarriedState(zeros(2))
    carried.write([tf.fill([3, 2], 5.0)])
    for rows in (1, 2, 4):
        assert carried.read(rows)[0].numpy().tolist() == [[0, 0]] * rows
    assert carried.read(3)[0].numpy().tolist() == [[5, 5]] * 3


def test_a_state_is_kept_in_its_own_type_and_shape():
    carried = CarriedState(zeros(2, dtype="float16"))
    carried.write([tf.constant([[0.1, 70.0]])])
    (state,) = tf.function(lambda rows: carried.read(rows))(tf.constant(1))
    assert state.dtype == tf.float16 and state.numpy().tolist() == [[np.float16(0.1), 70]]

    @tf.function
    def shape_of(rows):
        return carried.read(rows)[0].shape.as_list()[1]

    assert shape_of(tf.constant(1)) == 2
    with pytest.raises(ValueError):
        carried.write([])


def test_a_state_goes_through_arrays():
    carried, other = CarriedState(zeros(2, 1)), CarriedState(zeros(2, 1))
    carried.write([tf.fill([3, 2], 5.0), tf.fill([3, 1], 7.0)])
    other.assign(carried.numpy())
    assert_all_close(other.numpy(), [np.full([3, 2], 5.0), np.full([3, 1], 7.0)])
    with pytest.raises(ValueError):
        other.assign(carried.numpy()[:1])


def test_no_gradient_flows_into_the_batch_before():
    w, carried = tf.Variable(2.0), CarriedState(zeros(1))
    with tf.GradientTape() as tape:
        carried.write([w * tf.ones([1, 1])])
        loss = tf.reduce_sum(w * carried.read(1)[0])
    assert float(loss) == 4.0
    assert float(tape.gradient(loss, w)) == 2.0  # 4 if the write let it through


# --- in fit and evaluate ---


@pytest.mark.parametrize("eagerly", [False, True])
def test_fit_carries_from_batch_to_batch_and_begins_each_epoch_with_zeros(eagerly):
    arrays, seen = inputs(2, 2, 2), Seen()
    frozen(run_eagerly=eagerly).fit(data(arrays), epochs=2, callbacks=[seen], verbose=0)
    assert_all_close(seen.training, sums(arrays) * 2)
    assert np.abs(seen.training[1] - 3 * arrays[1]).min() > 0.1


def test_a_batch_of_another_size_begins_with_zeros():
    arrays, seen = inputs(3, 3, 1, 3, 3), Seen()
    frozen().fit(data(arrays), callbacks=[seen], verbose=0)
    assert_all_close(seen.training, sums(arrays))


def test_evaluate_carries_its_own_state_from_zeros_each_time():
    arrays, seen, model = inputs(2, 2, 2, 2), Seen(), frozen()
    means = [model.evaluate(data(arrays), callbacks=[seen], verbose=0) for _ in range(2)]
    assert_all_close(seen.evaluation, sums(arrays) * 2)
    assert means == pytest.approx([np.mean(sums(arrays))] * 2)


def test_validation_does_not_disturb_training():
    arrays, held_out, seen = inputs(2, 2, 2), inputs(2, 2), Seen()
    model = frozen()
    model.fit(data(arrays), validation_data=data(held_out), epochs=2, callbacks=[seen], verbose=0)
    assert_all_close(seen.training, sums(arrays) * 2)
    assert_all_close(seen.evaluation, sums(held_out) * 2)
    assert_all_close(seen.at_epoch_end, [sums(arrays)[-1]] * 2)


def test_evaluate_alone_leaves_the_training_state_where_it_was():
    arrays, model = inputs(2, 2), frozen()
    model.fit(data(arrays), verbose=0)
    before = model.training_state.numpy()
    model.evaluate(data(inputs(2, 2, 2)), verbose=0)
    assert_all_close(model.training_state.numpy(), before)


def test_predict_and_a_plain_call_neither_read_nor_write():
    arrays, model = inputs(2, 2), frozen()
    model.fit(data(arrays), verbose=0)
    before = model.training_state.numpy()
    np.testing.assert_allclose(model.predict(arrays[0], verbose=0), 3 * arrays[0], rtol=1e-6)
    np.testing.assert_allclose(model(arrays[0]), 3 * arrays[0], rtol=1e-6)
    assert_all_close(model.training_state.numpy(), before)
    assert model.carried is None


def test_no_gradient_crosses_batches_in_fit():
    arrays = inputs(2, 2, 2)
    model = frozen(rate=0.01)
    model.fit(data(arrays), verbose=0)
    w = 3.0
    for x in arrays:
        w -= 0.01 * x.mean()  # the state before is a constant
    assert float(model.w.value) == pytest.approx(w, rel=1e-5)


def test_a_step_that_fails_leaves_no_state_on_the_model():
    model = frozen()
    with pytest.raises(ValueError):
        model.fit(data(inputs(2)).map(lambda x, y: (x[:, :1], y, y, y)), verbose=0)
    assert model.carried is None


@pytest.mark.parametrize("many", [False, True])
def test_callbacks_come_as_one_or_as_a_list(many):
    seen, model, arrays = Seen(), frozen(), inputs(2, 2)
    callbacks = [seen] if many else seen
    model.fit(data(arrays), epochs=2, callbacks=callbacks, verbose=0)
    model.evaluate(data(arrays), callbacks=callbacks, verbose=0)
    model.evaluate(data(arrays), callbacks=callbacks, verbose=0)
    assert_all_close(seen.training, sums(arrays) * 2)
    assert_all_close(seen.evaluation, sums(arrays) * 2)


# --- several replicas ---


def test_each_replica_keeps_its_own_rows(mirrored):
    with mirrored.scope():
        model = frozen()
    arrays, seen = inputs(4, 4, 4), Seen()
    local = []
    model.fit(
        data(arrays),
        epochs=2,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: local.append(model.training_state.numpy())
            )
        ],
        verbose=0,
    )
    wanted = [[s[:2], s[2:]] for s in sums(arrays)] * 2
    assert len(local) == 6
    for found, halves in zip(local, wanted, strict=True):
        assert_all_close(found, halves)
    model.evaluate(data(arrays), callbacks=seen, verbose=0)
    assert_all_close(seen.evaluation, [s[:2] for s in sums(arrays)])


def test_the_states_of_all_replicas_go_through_arrays(mirrored):
    with mirrored.scope():
        carried = CarriedState(zeros(2, 1))

    def write():
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        carried.write([tf.fill([3, 2], 5.0 + number), tf.fill([3, 1], 7.0 + number)])

    mirrored.run(write)
    values = carried.numpy()
    wanted = [
        np.full([3, 2], 5.0),
        np.full([3, 1], 7.0),
        np.full([3, 2], 6.0),
        np.full([3, 1], 8.0),
    ]
    assert_all_close(values, wanted)
    carried.reset()
    assert [v.shape for v in carried.numpy()] == [(0, 2), (0, 1)] * 2
    carried.assign(values)
    assert_all_close(carried.numpy(), wanted)
    read = mirrored.experimental_local_results(mirrored.run(lambda: carried.read(3)[0]))
    assert_all_close([r.numpy() for r in read], [wanted[0], wanted[2]])


# --- in a language model ---


def language_model(layers=2, **options) -> LanguageModel:
    tokenizer = CharTokenizer(list("abcd"))
    model = LanguageModel(tokenizer, cell="gru", units=5, layers=layers, embedding=3, **options)
    model.set_weights([4 * w for w in model.get_weights()])  # a state that matters
    model.compile(keras.optimizers.SGD(0.0))
    return model


def windows(ids: np.ndarray, length: int) -> tf.data.Dataset:
    """Contiguous windows over the rows of `ids` [B, N]."""
    pairs = [
        (ids[:, i : i + length], ids[:, i + 1 : i + 1 + length])
        for i in range(0, ids.shape[1] - 1, length)
    ]
    parts = [np.stack(part) for part in zip(*pairs, strict=True)]
    return tf.data.Dataset.from_tensor_slices(tuple(parts))


def test_a_language_model_sees_short_windows_as_one_long_one():
    ids = np.random.default_rng(0).integers(4, 8, (3, 25))
    model = language_model()
    long = model.evaluate(windows(ids, 24), verbose=0, return_dict=True)
    short = model.evaluate(windows(ids, 4), verbose=0, return_dict=True)
    assert short["nats"] == pytest.approx(long["nats"], rel=1e-5)
    fitted = model.fit(windows(ids, 4), epochs=2, verbose=0).history["nats"]
    assert fitted == pytest.approx([long["nats"]] * 2, rel=1e-5)
    forgetful = language_model(carry_state=False)
    forgetful.set_weights(model.get_weights())
    assert forgetful.evaluate(windows(ids, 24), verbose=0, return_dict=True)[
        "nats"
    ] == pytest.approx(long["nats"], rel=1e-5)
    cut = forgetful.evaluate(windows(ids, 4), verbose=0, return_dict=True)["nats"]
    assert abs(cut - long["nats"]) > 0.01


def test_a_language_model_on_two_replicas_says_what_one_says(mirrored):
    ids = np.random.default_rng(0).integers(4, 8, (4, 13))
    alone = language_model(layers=1)
    with mirrored.scope():
        model = language_model(layers=1)
    model.set_weights(alone.get_weights())
    wanted = alone.evaluate(windows(ids, 3), verbose=0, return_dict=True)
    history = model.fit(windows(ids, 3), verbose=0).history
    assert history["nats"][0] == pytest.approx(wanted["nats"], rel=1e-5)


def test_a_cell_that_does_not_begin_at_zero(monkeypatch):
    """Carried or not, the first batch begins with the cell's own initial state."""

    class Awake(GRU):
        starts_at_zero = False

        def initial_state(self, batch_size):
            return tf.fill([batch_size, self.units], 0.75)

    monkeypatch.setitem(CELLS, "awake", Awake)
    model = LanguageModel(CharTokenizer(["a", "b"]), cell="awake", units=5, embedding=3)
    for layer in model.recurrent:
        layer.runner = "loop"
    ids = tf.constant([[4, 5, 4], [5, 5, 4]])
    alone = model(ids).numpy()
    with model.stepping():
        np.testing.assert_allclose(model(ids), alone, atol=1e-6)  # reads, and keeps what follows
        assert np.abs(model(ids) - alone).max() > 1e-3
    model.training_state.reset()
    with model.stepping():
        np.testing.assert_allclose(model(ids), alone, atol=1e-6)
