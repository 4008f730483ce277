"""Reads a table, trains and measures sums."""

import csv
from pathlib import Path

import keras
import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.measuring import Measured
from kerasrnn.tasks.training import Monitoring, optimizer_of
from kerasrnn.tasks.work import Examples, Work, data_in_memory
from tests.toys.sums.model import HEAD, Sums
from tests.toys.sums.task import TASK


def read(path: str, rows: int, window: int) -> list[np.ndarray]:
    """(left, right, value) as windows [N, T, 1] and [N, T]: window n + rows follows window n."""
    with Path(path).open(newline="") as file:
        table = np.array([[float(x) for x in row] for row in list(csv.reader(file))[1:]], "float32")
    steps = len(table) // (rows * window)
    if not steps:
        raise InputError("table", f"{rows * window} rows or more", path, "give more")
    table = table[: steps * rows * window].reshape(rows, steps, window, 3)
    table = table.transpose(1, 0, 2, 3).reshape(steps * rows, window, 3)
    return [table[..., :1], table[..., 1:2], table[..., 2]]


class TableExamples(Examples):
    def __init__(self, job):
        self.job, s = job, job.settings
        arrays = read(job.table, s.batch_size, s.window)
        self.examples = data_in_memory(arrays, s.batch_size, s.batch_size)
        self.batches, self.said = self.examples.batches, f"{len(arrays[0])} windows"

    def make(self, steps):
        model = Sums(self.job.settings.units)
        loss = keras.losses.MeanSquaredError()
        model.compile(optimizer_of(self.job.settings, steps), loss, metrics=[mean_nats])
        return model

    def data(self):
        return self.examples

    def monitoring(self, model):
        return Monitoring(["val_mean_nats"], lambda epoch: "no sample")

    def carried(self, model):
        return model.training_state


@keras.saving.register_keras_serializable("toys")
def mean_nats(y, mean):
    return keras.ops.mean(HEAD.nats(mean[..., None], y[..., None]), axis=-1)


class SumsWork(Work):
    def read(self, job, session, folder):
        return TableExamples(job)

    def measured(self, known, folder, say, few=False, table=None):
        s = known.settings
        left, right, value = read(table or known.job.table, s.batch_size, s.window)

        def truths():
            for start in range(0, len(left), s.batch_size):
                at = slice(start, start + s.batch_size)
                given = {"left": left[at], "right": right[at], "truth": value[at, :, None]}
                yield {**given, "fresh": np.full(s.batch_size, start == 0, np.int32)}

        return Measured(truths=truths())


WORK = SumsWork(TASK)
