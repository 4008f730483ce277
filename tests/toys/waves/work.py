"""Reads numbers, trains and measures waves."""

from pathlib import Path

import keras
import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.measuring import Measured
from kerasrnn.tasks.training import Monitoring, optimizer_of
from kerasrnn.tasks.work import Examples, Work, data_in_memory
from tests.toys.waves.model import Waves
from tests.toys.waves.task import TASK


def read(path: str, window: int) -> list[np.ndarray]:
    """Windows and what follows each of their steps, [N, T, 1]."""
    values = np.array(Path(path).read_text().split(), "float32")
    if len(values) <= window:
        raise InputError("numbers", f"more than {window} numbers", path, "give more")
    starts = range(0, len(values) - window, window)
    x, y = ([values[s + i : s + i + window, None] for s in starts] for i in (0, 1))
    return [np.stack(x), np.stack(y)]


class WaveExamples(Examples):
    def __init__(self, job):
        self.job, s = job, job.settings
        arrays = read(job.numbers, s.window)
        self.examples = data_in_memory(arrays, 2, s.batch_size, job.seed)
        self.batches, self.said = self.examples.batches, f"{len(arrays[0])} windows"

    def make(self, steps):
        model = Waves(self.job.settings.units)
        model.compile(optimizer_of(self.job.settings, steps), keras.losses.MeanSquaredError())
        return model

    def data(self):
        return self.examples

    def monitoring(self, model):
        return Monitoring(["val_loss"], lambda epoch: "no sample")


class WavesWork(Work):
    def read(self, job, session, folder):
        return WaveExamples(job)

    def measured(self, known, folder, say, few=False, numbers=None):
        values = np.array(Path(numbers or known.job.numbers).read_text().split(), "float32")
        case = {"length": np.array(100, np.int32), "seed": np.array(1, np.int32)}
        return Measured(cases=[case], references=values)

    def judge(self, answers, references):
        """How far the spread of what is written is from that of the data."""
        return {"spread": float(answers[0]["wave"].std() / references.std())}


WORK = WavesWork(TASK)
