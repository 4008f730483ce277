"""Report the progress of training: share of the epoch, tokens per second, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import keras

IN_PLACE, LINES = 0.5, 30.0  # seconds between two reports, in a terminal and elsewhere
CLEAR = "\r\x1b[K"  # a terminal returns to the beginning of the line and deletes the line


def write_to_stderr(text: str) -> None:
    """Write text to stderr at once, without an end of line."""
    print(text, end="", file=sys.stderr, flush=True)


def clock_time(seconds: float) -> str:
    """Return seconds as "m:ss" or "h:mm:ss".

    >>> clock_time(35.4), clock_time(754), clock_time(3 * 3600 + 5)
    ('0:35', '12:34', '3:00:05')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class ProgressReport(keras.callbacks.Callback):
    """Reports the progress while an epoch runs, and the row of `history.csv` after each epoch.

    It must come after `HistoryFile`, which adds to the rows.

    Args:
        rows: the rows of `history.csv`.
        batches: the number of batches in an epoch.
        epochs: the number of epochs in all.
        tokens_per_batch: the mean number of target tokens in a batch.
        first: the batch with which training begins in its first epoch, above 0 when it continues.
        in_place: True rewrites one line of a terminal twice a second; False writes a line every
            30 seconds.
        write: writes text without adding an end of line.
        clock: returns seconds; tests replace it.
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
        self.end: float | None = None  # time at which the last batch of the last epoch ended
        self.between = 0.0  # seconds from there to the next epoch, for validation and samples

    def on_epoch_begin(self, epoch, logs=None):
        now = self.clock()
        if self.end is not None:
            self.between = now - self.end
        self.epoch, self.done, self.first = epoch, self.first, 0
        # The speed is measured from `begin`, at which `batches_before` batches were done.
        self.begin, self.batches_before, self.last_report = now, self.done, now
        if not self.compiled:
            self._report(f"{self._title()}  compiling the first batches")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = self.clock()
        if not self.compiled:  # the first batch is compiled, so it says nothing about the speed
            self.compiled, self.begin, self.batches_before = True, now, self.done
        if self.done == self.batches:
            self.end = now
            self.clear()
            return
        measured = self.done > self.batches_before and now > self.begin
        if measured and now - self.last_report >= self.every:
            self.last_report = now
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
        """Return the line about the running epoch."""
        seconds_per_batch = (now - self.begin) / (self.done - self.batches_before)
        epoch_left = seconds_per_batch * (self.batches - self.done)
        epochs_left = self.epochs - self.epoch - 1
        # Validation follows this epoch and every later one.
        training_left = epoch_left + epochs_left * seconds_per_batch * self.batches
        training_left += (epochs_left + 1) * self.between
        speed = f"{round(self.tokens_per_batch / seconds_per_batch):,} tokens/s"
        left = f"epoch {clock_time(epoch_left)} left, training {clock_time(training_left)} left"
        return f"{self._title()}  {self.done / self.batches:.0%}  {speed}  {left}"

    def _report(self, text: str) -> None:
        self.write(f"{CLEAR}{text}" if self.in_place else f"{text}\n")

    def clear(self) -> None:
        """Delete the report from the line of a terminal, so that other text can begin there."""
        if self.in_place:
            self.write(CLEAR)
