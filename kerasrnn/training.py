"""Optimizers by name, and what is written down while a model trains."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras

from kerasrnn.errors import InputError
from kerasrnn.files import replacing

OPTIMIZERS = {
    "adagrad": keras.optimizers.Adagrad,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
CLIPPING = {
    "global_norm": "global_clipnorm",
    "norm": "clipnorm",
    "value": "clipvalue",
    "none": None,
}
SCHEDULES = ("constant", "cosine")


def make_optimizer(
    name: str,
    learning_rate: float,
    *,
    schedule: str = "constant",
    steps: int = 0,
    warmup: int = 0,
    clip: str = "global_norm",
    clip_at: float = 1.0,
    weight_decay: float | None = None,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer with its learning rate's course and its clipping of gradients.

    Args:
        name: one of `OPTIMIZERS`.
        learning_rate: at its highest.
        schedule: "constant", or "cosine": up over `warmup` steps, then down along a half cosine
            to a hundredth at `steps` (Loshchilov & Hutter 2017).
        clip: "global_norm" scales all gradients together (Pascanu et al. 2013), "norm" each by
            itself, "value" each number; "none".
        clip_at: the norm or value.
        weight_decay: decoupled decay; None for the optimizer's own default.

    Raises:
        InputError: for an unknown name or a number out of its range.

    >>> make_optimizer("adamw", 1e-3).global_clipnorm
    1.0
    """
    for argument, value, known in (
        ("optimizer", name, OPTIMIZERS),
        ("clip", clip, CLIPPING),
        ("schedule", schedule, SCHEDULES),
    ):
        if value not in known:
            raise InputError(argument, f"one of {', '.join(known)}", value, "choose one of them")
    for argument, value in (("learning_rate", learning_rate), ("clip_at", clip_at)):
        if not 0 < value < math.inf:
            raise InputError(argument, "a number above 0", value, "change it")
    rate = learning_rate
    if schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else learning_rate,
            max(steps - warmup, 1),
            alpha=0.01,
            warmup_target=learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    options = {CLIPPING[clip]: clip_at} if CLIPPING[clip] else {}
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    return OPTIMIZERS[name](rate, **options)


class StopOnNaN(keras.callbacks.Callback):
    """Stops training with an InputError where the loss is no longer a number."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise InputError(
                "learning_rate",
                "a loss that stays finite",
                f"{logs['loss']} in batch {batch + 1}",
                "lower it, or clip_at",
            )


class Speed(keras.callbacks.Callback):
    """Adds `tokens_per_second` of the training part of each epoch to its logs.

    Args:
        tokens_per_batch: target tokens in a batch.
    """

    def __init__(self, tokens_per_batch: int):
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


class HistoryFile(keras.callbacks.Callback):
    """Writes `history.csv`, a row per epoch, and the learning curve beside it.

    Args:
        folder: where to.
        rows: the epochs before, when training goes on.
    """

    def __init__(self, folder: Path, rows: list[dict]):
        super().__init__()
        self.folder, self.rows = folder, rows

    def on_epoch_end(self, epoch, logs=None):
        from kerasrnn.plots import learning_curve  # matplotlib takes a second to import

        row = {"epoch": epoch + 1, **{name: round(float(value), 6) for name, value in logs.items()}}
        self.rows[:] = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        with replacing(self.folder / "history.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)
        with replacing(self.folder / "learning_curve.png") as path:
            learning_curve(self.rows, path)


class BestModel(keras.callbacks.Callback):
    """Saves the model to `path` whenever `monitor` is lower than ever before in `rows`."""

    def __init__(self, path: Path, monitor: str, rows: list[dict]):
        super().__init__()
        self.path, self.monitor = path, monitor
        self.best = min((row[monitor] for row in rows), default=float("inf"))

    def on_epoch_end(self, epoch, logs=None):
        if logs[self.monitor] < self.best or not self.path.exists():
            self.best = logs[self.monitor]
            with replacing(self.path) as path:
                self.model.save(path)


class Samples(keras.callbacks.Callback):
    """Shows `sample(epoch)` after each epoch and adds it to the file `path`."""

    def __init__(self, path: Path, sample: Callable[[int], str]):
        super().__init__()
        self.path, self.sample = path, sample

    def on_epoch_end(self, epoch, logs=None):
        text = f"--- after epoch {epoch + 1} ---\n{self.sample(epoch)}\n"
        print(f"\n{text}")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
