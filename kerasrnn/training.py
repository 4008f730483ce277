"""The loss of tokens, and what is decided and written down while a model trains."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from kerasrnn.best import best_row, count_records
from kerasrnn.errors import InputError
from kerasrnn.files import replacing
from kerasrnn.not_finite import NotFinite


@tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
def smoothed_cross_entropy(targets, logits, ε):
    """-(1 - ε) log p(y) - ε mean_v log p(v), [B, T]; as one XLA kernel, which reads the
    logits [B, T, V] fewer times than TensorFlow's own operators would."""
    chosen = tf.gather(logits, targets, batch_dims=2)
    mean = tf.reduce_mean(logits, axis=-1)
    return tf.reduce_logsumexp(logits, axis=-1) - (1 - ε) * chosen - ε * mean


@keras.saving.register_keras_serializable(package="kerasrnn")
class TokenCrossEntropy(keras.losses.Loss):
    """Cross-entropy of integer targets, summed over the real tokens, per real token.

    Both the sum and the count are taken over the batches of all replicas, so neither the padding
    nor how sentences are dealt to replicas changes the gradient. With label smoothing ε (Szegedy
    et al. 2016, section 7) the target is 1 - ε at the true token and ε spread over all V.

    y_true int [B, T], 0 where there is nothing; y_pred logits [B, T, V].

    Args:
        label_smoothing: ε, from 0 to below 1.

    >>> loss = TokenCrossEntropy()
    >>> round(float(loss([[1, 0]], [[[0.0, 0.0], [5.0, 9.0]]])), 4)  # ln 2
    0.6931
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs):
        if not 0 <= label_smoothing < 1:
            raise InputError(
                "label_smoothing", "a share from 0 to below 1", label_smoothing, "use 0.1"
            )
        super().__init__(name=name, reduction="sum", **kwargs)
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true = tf.cast(y_true, tf.int32)
        real = tf.cast(y_true != 0, tf.float32)
        if sample_weight is not None:
            weight = tf.cast(sample_weight, tf.float32)
            real *= weight[:, tf.newaxis] if weight.shape.rank == 1 else weight
        return per_token(tf.reduce_sum(real * self.call(y_true, y_pred)), real)

    def call(self, y_true, y_pred):
        """Of each token, [B, T]."""
        return smoothed_cross_entropy(y_true, tf.cast(y_pred, tf.float32), self.label_smoothing)

    def get_config(self):
        return {"label_smoothing": self.label_smoothing, "name": self.name}


def per_token(total, real):
    """This replica's part of a loss: `total`, its sum over the batch, divided by the number of
    real tokens of all replicas; `real` float32 [B, T] holds the weight of each token here."""
    count = tf.reduce_sum(real)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        count = replica.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.math.divide_no_nan(total, tf.stop_gradient(count))


class StopOnNaN(keras.callbacks.Callback):
    """Stops training with `NotFinite` where the loss is no longer a number.

    Args:
        first: the batch of the epoch that training goes on with.
    """

    def __init__(self, first: int = 0):
        super().__init__()
        self.first = first

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.done = epoch, self.first
        self.first = 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if not math.isfinite(logs["loss"]):
            raise NotFinite(logs["loss"], self.epoch + 1, self.done)


RECORDS = "records"  # how often there was a best epoch


class _Replayed:
    """Mixin of a callback of Keras's that decides by epochs: of those before, it decides again.

    What it sees are the rows of `history.csv`, so that a training that went on sees no others. It
    is told how often there was a new best epoch, since Keras knows one score and no ties.
    """

    def __init__(self, rows: list[dict], scores: Sequence[str], **options):
        super().__init__(monitor=RECORDS, mode="max", min_delta=0, **options)
        self.rows, self.scores = rows, scores

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for count, row in enumerate(epochs_of(self.rows), 1):
            super().on_epoch_end(row["epoch"] - 1, self._records(count))
        self.model.stop_training = False

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, self._records(None))

    def _records(self, count: int | None) -> dict:
        return {RECORDS: count_records(epochs_of(self.rows)[:count], self.scores)}


class StopEarly(_Replayed, keras.callbacks.EarlyStopping):
    """Keras's `EarlyStopping`; stands behind `HistoryFile`, whose `rows` it reads."""


class Plateau(_Replayed, keras.callbacks.ReduceLROnPlateau):
    """Keras's `ReduceLROnPlateau`; stands behind `HistoryFile`, whose `rows` it reads."""

    def __init__(self, rows: list[dict], scores: Sequence[str], learning_rate: float, **options):
        super().__init__(rows, scores, **options)
        self.learning_rate = learning_rate

    def on_train_begin(self, logs=None):
        self.model.optimizer.learning_rate = self.learning_rate
        super().on_train_begin(logs)


class Speed(keras.callbacks.Callback):
    """Adds to the logs of each epoch the `seconds` of its training part, and `tokens_per_second`.

    Args:
        tokens_per_batch: target tokens in a batch, on average.
    """

    def __init__(self, tokens_per_batch: float):
        super().__init__()
        self.tokens_per_batch = tokens_per_batch

    def on_epoch_begin(self, epoch, logs=None):
        self.begin, self.batches = time.perf_counter(), 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        tokens = self.tokens_per_batch * self.batches
        logs["tokens_per_second"] = round(tokens / (self.end - self.begin))
        logs["seconds"] = round(self.end - self.begin, 1)


class Scored(keras.callbacks.Callback):
    """Adds figures of the model's own output to the logs of each epoch.

    Args:
        score: gives them, by name; names begin with "val_".
    """

    def __init__(self, score: Callable[[], dict[str, float]]):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.score())


AVERAGED = "averaged"  # the column that only the row of a mean of epochs has


def epochs_of(rows: list[dict]) -> list[dict]:
    """The rows of epochs, without those of means of epochs."""
    return [row for row in rows if AVERAGED not in row]


class HistoryFile(keras.callbacks.Callback):
    """Writes `history.csv`, a row per epoch, and the learning curve beside it.

    Args:
        folder: where to.
        rows: the epochs before, when training goes on; the list that this callback adds to.
        scores: that choose the best epoch, see `best_row`.
    """

    def __init__(self, folder: Path, rows: list[dict], scores: Sequence[str]):
        super().__init__()
        self.folder, self.rows, self.scores = folder, rows, scores

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: round(float(value), 6) for name, value in logs.items()}}
        self.rows[:] = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        self._write()

    def add_mean(self, row: dict) -> None:
        """A row that is no epoch: of the mean of the weights of the last `row["averaged"]`."""
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        from kerasrnn.plots import learning_curve  # matplotlib takes a second to import

        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.folder / "history.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=names)
            writer.writeheader()
            writer.writerows(self.rows)
        with replacing(self.folder / "learning_curve.png") as path:
            best = best_row(self.rows, self.scores)
            figure = learning_curve(epochs_of(self.rows), best, self.scores[0])
            figure.savefig(path, dpi=120, format="png")


class BestModel(keras.callbacks.Callback):
    """Saves the model to `path` when the newest of `rows` is the best; stands behind
    `HistoryFile`, which adds to them."""

    def __init__(self, path: Path, rows: list[dict], scores: Sequence[str]):
        super().__init__()
        self.path, self.rows, self.scores = path, rows, scores

    def on_epoch_end(self, epoch, logs=None):
        if best_row(self.rows, self.scores) is self.rows[-1] or not self.path.exists():
            with replacing(self.path) as path:
                self.model.save(path)


class Samples(keras.callbacks.Callback):
    """Shows `sample(epoch)` after each epoch and adds it to the file `path`.

    What stands there of this epoch or later ones was trained by a process that was killed.
    """

    def __init__(self, path: Path, sample: Callable[[int], str]):
        super().__init__()
        self.path, self.sample = path, sample

    def on_epoch_end(self, epoch, logs=None):
        title = f"--- after epoch {epoch + 1} ---\n"
        text = f"{title}{self.sample(epoch)}\n"
        print(f"\n{text}")
        before = self.path.read_text(encoding="utf-8") if epoch and self.path.exists() else ""
        with replacing(self.path) as path:
            path.write_text(before.split(title)[0] + text, encoding="utf-8")
