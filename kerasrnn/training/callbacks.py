"""Callbacks: what is decided and written down while a model trains."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kerasrnn.base.files import replacing
from kerasrnn.training.best import best_row, count_records
from kerasrnn.training.not_finite import NotFinite


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


class Resumable:
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


class StopEarly(Resumable, keras.callbacks.EarlyStopping):
    """Keras's `EarlyStopping`; stands behind `HistoryFile`, whose `rows` it reads."""


class Plateau(Resumable, keras.callbacks.ReduceLROnPlateau):
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
        from kerasrnn.analysis.plots import learning_curve  # matplotlib takes a second to import

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
