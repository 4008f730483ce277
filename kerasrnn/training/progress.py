"""How far training is: share of the epoch, tokens a second, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import keras

IN_PLACE, LINES = 0.5, 30.0  # seconds between two reports, in a terminal and elsewhere
CLEAR = "\r\x1b[K"  # back to the beginning of the line, and nothing behind it


def write_to_stderr(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def clock_time(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock_time(35.4), clock_time(754), clock_time(3 * 3600 + 5)
    ('0:35', '12:34', '3:00:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressReport(keras.callbacks.Callback):
    """Says how far training is while an epoch runs, and after each epoch its row.

    It stands behind `HistoryFile`, which adds to the rows.

    Args:
        rows: of `history.csv`.
        batches: in an epoch.
        epochs: in all.
        tokens_per_batch: on average.
        first: the batch of its epoch that training goes on with.
        in_place: on one line of a terminal, which is written anew twice a second; otherwise a line
            every 30 seconds.
        write: what writes text, without adding an end of line.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        rows: list[dict],
        *,
        batches: int,
        epochs: int,
        tokens_per_batch: float,
        first: int = 0,
        in_place: bool = False,
        write: Callable[[str], None] = write_to_stderr,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.rows, self.batches, self.epochs = rows, batches, epochs
        self.tokens_per_batch, self.first, self.in_place = tokens_per_batch, first, in_place
        self.write, self.clock = write, clock
        self.every = IN_PLACE if in_place else LINES
        self.compiled = False
        self.end: float | None = None  # of the training part of the epoch before
        self.between = 0.0  # seconds from there to the next epoch: validation and samples

    def on_epoch_begin(self, epoch, logs=None):
        now = self.clock()
        if self.end is not None:
            self.between = now - self.end
        self.epoch, self.done, self.first = epoch, self.first, 0
        self.begin, self.counted, self.said = now, self.done, now
        if not self.compiled:
            self._report(f"{self._title()}  compiling the first batches")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = self.clock()
        if not self.compiled:  # the time of the first batch is that of compiling
            self.compiled, self.begin, self.counted = True, now, self.done
        if self.done == self.batches:
            self.end = now
            self.clear()
        elif now - self.said >= self.every and self.done > self.counted and now > self.begin:
            self.said = now
            self._report(self._line(now))

    def on_test_begin(self, logs=None):
        if self.in_place:
            self._report(f"{self._title()}  validating")

    def on_test_end(self, logs=None):
        self.clear()

    def on_epoch_end(self, epoch, logs=None):
        row = {name: value for name, value in self.rows[-1].items() if name != "epoch"}
        figures = "  ".join(f"{name} {value:.6g}" for name, value in row.items())
        self.clear()
        self.write(f"{self._title()}  {figures}\n")

    def _title(self) -> str:
        return f"epoch {self.epoch + 1}/{self.epochs}"

    def _line(self, now: float) -> str:
        seconds = (now - self.begin) / (self.done - self.counted)  # for a batch
        epoch = seconds * (self.batches - self.done)
        others = self.epochs - self.epoch - 1
        whole = epoch + others * seconds * self.batches + (others + 1) * self.between
        speed = f"{round(self.tokens_per_batch / seconds):,} tokens/s"
        left = f"epoch {clock_time(epoch)} left, training {clock_time(whole)} left"
        return f"{self._title()}  {self.done / self.batches:.0%}  {speed}  {left}"

    def _report(self, text: str) -> None:
        self.write(f"{CLEAR}{text}" if self.in_place else f"{text}\n")

    def clear(self) -> None:
        """Leave the line of a terminal to others."""
        if self.in_place:
            self.write(CLEAR)
