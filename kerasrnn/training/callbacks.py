"""Callbacks that stop training, choose the best epoch and write files while a model trains."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from kerasrnn.base.files import replacing
from kerasrnn.training.best import best_row, column_of, count_records
from kerasrnn.training.not_finite import NotFinite


class StopOnNaN(keras.callbacks.Callback):
    """Stops training when the loss becomes NaN or infinite.

    Args:
        first: the batch with which training begins in its first epoch, above 0 when it continues.

    Raises:
        NotFinite: after the batch with that loss.
    """

    def __init__(self, first: int = 0):
        super().__init__()
        self.first = first

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.done = epoch, self.first
        self.first = 0  # every later epoch begins with its first batch

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if not math.isfinite(logs["loss"]):
            raise NotFinite(logs["loss"], self.epoch + 1, self.done)


RECORDS = "records"  # the name under which Keras's callbacks see `count_records`


class Resumable:
    """Mixin for a Keras callback that compares epochs, so that a resumed training compares all.

    It reads the rows of `history.csv` and replays the epochs before, so a resumed training decides
    like one that was never stopped. Keras compares a single number, without a second score for
    ties. So it gets the number of epochs that were the best so far; that number rises with every
    new best epoch.

    Args:
        rows: the rows of `history.csv`, to which `HistoryFile` adds.
        scores: columns that choose the best epoch, see `best_row`.
        options: of the Keras callback.
    """

    def __init__(self, rows: list[dict], scores: Sequence[str], **options):
        super().__init__(monitor=RECORDS, mode="max", min_delta=0, **options)
        self.rows, self.scores = rows, scores

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for count, row in enumerate(epoch_rows(self.rows), 1):
            super().on_epoch_end(row["epoch"] - 1, self._records(count))
        self.model.stop_training = False

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, self._records(None))

    def _records(self, count: int | None) -> dict:
        """Return the logs for Keras's callback after the first `count` epochs, None for all."""
        return {RECORDS: count_records(epoch_rows(self.rows)[:count], self.scores)}


class StopEarly(Resumable, keras.callbacks.EarlyStopping):
    """Keras's `EarlyStopping`; it must come after `HistoryFile`, whose `rows` it reads."""


class Plateau(Resumable, keras.callbacks.ReduceLROnPlateau):
    """Keras's `ReduceLROnPlateau`; it must come after `HistoryFile`, whose `rows` it reads."""

    def __init__(self, rows: list[dict], scores: Sequence[str], learning_rate: float, **options):
        super().__init__(rows, scores, **options)
        self.learning_rate = learning_rate

    def on_train_begin(self, logs=None):
        # The checkpoint holds the lowered rate; the replay of all epochs lowers it again.
        self.model.optimizer.learning_rate = self.learning_rate
        super().on_train_begin(logs)


class Speed(keras.callbacks.Callback):
    """Adds `seconds` and `tokens_per_second` to the logs of each epoch, without its validation.

    Args:
        tokens_per_batch: the mean number of target tokens in a batch.
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


class Scores(keras.callbacks.Callback):
    """Adds scores of the model's output to the logs of each epoch.

    Args:
        score: returns the scores by name; each name begins with "val_".
    """

    def __init__(self, score: Callable[[], dict[str, float]]):
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.score())


AVERAGED = "averaged"  # a column that only the row for a mean of epochs has


def epoch_rows(rows: list[dict]) -> list[dict]:
    """Return the rows of single epochs, without the rows for means of epochs."""
    return [row for row in rows if AVERAGED not in row]


class HistoryFile(keras.callbacks.Callback):
    """Writes `history.csv`, one row for each epoch, and `learning_curve.png`.

    Args:
        folder: the folder to write to.
        rows: the rows of earlier epochs; this callback adds to the list.
        scores: columns that choose the best epoch, see `best_row`.
    """

    def __init__(self, folder: Path, rows: list[dict], scores: Sequence[str]):
        super().__init__()
        self.folder, self.rows, self.scores = folder, rows, scores

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: round(float(value), 6) for name, value in logs.items()}}
        # In place, because other callbacks hold the same list. Rows of this epoch or of later
        # ones are replaced.
        self.rows[:] = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        self._write()

    def add_mean(self, row: dict) -> None:
        """Add a row for the mean of the weights of the last `row["averaged"]` epochs."""
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
            figure = learning_curve(epoch_rows(self.rows), best, column_of(self.scores[0]))
            figure.savefig(path, dpi=120, format="png")


class BestModel(keras.callbacks.Callback):
    """Saves the model to `path` when the last of `rows` is the best.

    It must come after `HistoryFile`, which adds the row of the epoch.
    """

    def __init__(self, path: Path, rows: list[dict], scores: Sequence[str]):
        super().__init__()
        self.path, self.rows, self.scores = path, rows, scores

    def on_epoch_end(self, epoch, logs=None):
        if best_row(self.rows, self.scores) is self.rows[-1] or not self.path.exists():
            with replacing(self.path) as path:
                self.model.save(path)


class Samples(keras.callbacks.Callback):
    """Shows `sample(epoch)` after each epoch and adds it to the file `path`.

    Samples of this epoch or later ones in the file are replaced: a process that was killed before
    its checkpoint wrote them.
    """

    def __init__(self, path: Path, sample: Callable[[int], str]):
        super().__init__()
        self.path, self.sample = path, sample

    def on_epoch_end(self, epoch, logs=None):
        title = f"--- after epoch {epoch + 1} ---\n"
        text = f"{title}{self.sample(epoch)}\n"
        print(f"\n{text}")
        samples = self.path.read_text(encoding="utf-8") if epoch and self.path.exists() else ""
        with replacing(self.path) as path:
            path.write_text(samples.split(title)[0] + text, encoding="utf-8")
