"""Optimizers by name, and what callbacks write."""

import csv
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from kerasrnn.analysis.plots import learning_curve
from kerasrnn.base.errors import InputError
from kerasrnn.training.best import best_row
from kerasrnn.training.callbacks import (
    BestModel,
    HistoryFile,
    Samples,
    Speed,
    StopEarly,
    StopOnNaN,
    epoch_rows,
)
from kerasrnn.training.optimizers import Course, make_optimizer


@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_takes_a_step(name):
    weight = keras.Variable(np.array([3.0, -2.0], np.float32))
    make_optimizer(name, Course(0.1)).apply([np.array([1.0, -1.0], np.float32)], [weight])
    assert weight.numpy()[0] < 3.0 and weight.numpy()[1] > -2.0


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("global_norm", [[-0.6, 0.0], [0.0, -0.8]]),
        ("norm", [[-1.0, 0.0], [0.0, -1.0]]),
        ("value", [[-1.0, 0.0], [0.0, -1.0]]),
        ("none", [[-3.0, 0.0], [0.0, -4.0]]),
    ],
)
def test_clipping(clip, expected):
    weights = [keras.Variable(np.zeros(2, np.float32)) for _ in range(2)]
    gradients = [np.array([3.0, 0.0], np.float32), np.array([0.0, 4.0], np.float32)]
    make_optimizer("sgd", Course(1.0), clip=clip).apply(gradients, weights)
    np.testing.assert_allclose([w.numpy() for w in weights], expected, rtol=1e-5)


def test_norm_and_value_differ():
    for clip, expected in (("norm", [-0.6, -0.8]), ("value", [-1.0, -1.0])):
        weight = keras.Variable(np.zeros(2, np.float32))
        make_optimizer("sgd", Course(1.0), clip=clip).apply(
            [np.array([3.0, 4.0], np.float32)], [weight]
        )
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5)


def test_the_cosine_goes_up_and_down():
    rate = Course(0.5, "cosine", steps=100, warmup=10).learning_rate()
    rates = [float(rate(step)) for step in (0, 5, 10, 55, 100, 200)]
    np.testing.assert_allclose(rates, [0.0, 0.25, 0.5, 0.2525, 0.005, 0.005], rtol=1e-4)
    alone = Course(0.5, "cosine", steps=100).learning_rate()
    np.testing.assert_allclose([float(alone(0)), float(alone(100))], [0.5, 0.005], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "adamm"},
            "optimizer: expected one of adagrad, adam, adamw, rmsprop, sgd, got adamm; "
            "choose one of them",
        ),
        (
            {"clip": "norms"},
            "clip: expected one of global_norm, norm, value, none, got norms; choose one of them",
        ),
        (
            {"course": Course(1e-3, "linear")},
            "schedule: expected one of constant, cosine, inverse_sqrt, plateau, got linear; choose "
            "one of them",
        ),
        ({"course": Course(0.0)}, "learning_rate: expected a number above 0, got 0.0; change it"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(InputError) as error:
        make_optimizer(**{"name": "adam", "course": Course(1e-3), **arguments})
    assert str(error.value) == message


def line_model() -> keras.Model:
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(callbacks, epochs=3, batches=4):
    x = np.linspace(-1, 1, 8 * batches, dtype=np.float32)[:, None]
    return line_model().fit(x, 2 * x, batch_size=8, epochs=epochs, callbacks=callbacks, verbose=0)


def test_a_loss_that_is_not_finite_stops():
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                self.model.layers[0].kernel.assign([[np.nan]])

    with pytest.raises(InputError) as error:
        fit([Poison(), StopOnNaN()])
    assert str(error.value) == (
        "learning_rate: expected a loss that stays finite, got nan in epoch 1, batch 3; lower "
        "it, or clip_at"
    )


def test_speed_counts_the_training_part_only(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 4.0, 8.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    speed, logs = Speed(100), {}
    speed.on_epoch_begin(0)
    for batch in range(4):
        speed.on_train_batch_end(batch)
    speed.on_epoch_end(0, logs)
    assert logs == {"tokens_per_second": 50.0, "seconds": 8.0}  # 400 tokens


def with_figures(values):
    """A callback that puts known figures into the logs."""
    values = iter(values)

    def put(epoch, logs):
        nats = next(values)
        logs.update({"nats": nats + 0.25, "val_nats": nats})

    return keras.callbacks.LambdaCallback(on_epoch_end=put)


def test_history_is_a_row_an_epoch_and_goes_on(tmp_path):
    rows = []
    fit([with_figures([3.0, 2.0]), HistoryFile(tmp_path, rows, ["val_nats"])], epochs=2)
    # Going on from epoch 2 replaces what came after the checkpoint.
    again = HistoryFile(tmp_path, rows[:1], ["val_nats"])
    again.on_epoch_end(1, {"loss": 0.5, "nats": 1.5, "val_nats": 1.25})
    with (tmp_path / "history.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [row["epoch"] for row in read] == ["1", "2"]
    assert [row["val_nats"] for row in read] == ["3.0", "1.25"]
    picture = np.asarray(Image.open(tmp_path / "learning_curve.png").convert("L"))
    assert picture.shape[0] > 300 and (picture < 128).mean() > 0.005
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.csv", "learning_curve.png"]


def test_everything_agrees_on_the_best_epoch(tmp_path):
    """`exact` is the same in all epochs, so BLEU decides: the second epoch."""
    figures = iter([(5.0, 3.0), (7.0, 2.5), (6.0, 2.0), (6.5, 2.0), (1.0, 2.0)])
    scores, rows, weights = ["+val_exact", "+val_bleu", "val_nats"], [], []

    def put(epoch, logs):
        bleu, nats = next(figures)
        logs.update({"val_exact": 0.0, "val_bleu": bleu, "nats": nats, "val_nats": nats})
        weights.append(model.get_weights())

    history, path = HistoryFile(tmp_path, rows, scores), tmp_path / "model.keras"
    stop = StopEarly(rows, scores, patience=3)
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=put), history]
    callbacks += [BestModel(path, rows, scores), stop]
    x, model = np.linspace(-1, 1, 32, dtype=np.float32)[:, None], line_model()
    model.fit(x, 2 * x, epochs=9, callbacks=callbacks, verbose=0)
    with (tmp_path / "history.csv").open() as file:
        written = [{n: float(v) for n, v in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in written] == [1, 2, 3, 4, 5]  # three without a better one
    best = best_row(rows, scores)
    assert best["epoch"] == best_row(written, scores)["epoch"] == 2
    for kept, wanted in zip(keras.saving.load_model(path).get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(kept, wanted)
    figure = learning_curve(rows, best, "val_exact")
    ring = figure.axes[0].lines[-1]
    assert list(ring.get_xydata()[0]) == [2, 2.5]
    assert ring.get_label() == "best: epoch 2, val_exact 0.0000"


def test_a_score_that_is_no_column_is_named():
    rows = [{"epoch": 1, "val_loss": 2.0, "val_accuracy": 0.5}]
    with pytest.raises(InputError) as error:
        best_row(rows, ["+val_acuracy"])
    assert str(error.value) == (
        "scores: expected one of val_loss, val_accuracy, got +val_acuracy; name a column of "
        "history.csv"
    )


def test_the_best_model_survives_going_on(tmp_path):
    """A run that goes on knows its earlier epochs by their rows."""
    path, saved = tmp_path / "model.keras", []
    rows = [{"epoch": 1, "val_nats": 1.0}, {"epoch": 2, "val_nats": 4.0}]
    path.touch()
    best = BestModel(path, rows, ["val_nats"])
    best.set_model(SimpleNamespace(save=lambda path: (saved.append(len(rows)), path.touch())))
    for nats in (1.5, 1.0, 0.5, 2.0):
        rows.append({"epoch": len(rows) + 1, "val_nats": nats})
        best.on_epoch_end(len(rows) - 1)
    assert saved == [5]


def test_a_model_without_nats_has_a_learning_curve_too():
    rows = [{"epoch": e, "loss": 2.0 - e, "val_loss": 3.0 - e, "val_exact": 0.5} for e in (1, 2)]
    figure = learning_curve(rows, rows[1], "val_exact")
    assert list(figure.axes[0].lines[-1].get_xydata()[0]) == [2, 1.0]
    assert figure.axes[0].get_ylabel() == "loss"


def test_the_mean_of_epochs_is_a_row_and_may_be_the_best(tmp_path):
    rows, scores = [], ["val_nats"]
    history = HistoryFile(tmp_path, rows, scores)
    for epoch, nats in enumerate((3.0, 2.0)):
        history.on_epoch_end(epoch, {"nats": nats, "val_nats": nats})
    history.add_mean({"epoch": 2, "averaged": 2, "val_nats": 1.5})
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines == ["epoch,nats,val_nats,averaged", "1,3.0,3.0,", "2,2.0,2.0,", "2,,1.5,2"]
    assert best_row(rows, scores) == {"epoch": 2, "averaged": 2, "val_nats": 1.5}
    figure = learning_curve(epoch_rows(rows), best_row(rows, scores), "val_nats")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 2, 1]
    label = figure.axes[0].lines[-1].get_label()
    assert label == "best: the mean of the last epochs, val_nats 1.5000"


def test_samples_are_shown_and_kept(tmp_path, capsys):
    path = tmp_path / "samples.txt"
    fit([Samples(path, lambda epoch: f"é{epoch}")], epochs=2)
    expected = "--- after epoch 1 ---\né0\n--- after epoch 2 ---\né1\n"
    assert path.read_text(encoding="utf-8") == expected
    assert "é1" in capsys.readouterr().out
