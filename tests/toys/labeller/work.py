"""Reads lines, trains and measures a labeller."""

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dataset import dataset_from_generator
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.training import Data, Monitoring, optimizer_of
from kerasrnn.tasks.work import Examples, Work
from tests.toys.labeller.model import LENGTH, Labeller
from tests.toys.labeller.task import TASK, Settings

SIGNATURE = (tf.TensorSpec([None, LENGTH], tf.int32), tf.TensorSpec([None], tf.int32))


def read(path: str) -> tuple[np.ndarray, list[str]]:
    """Codes of the characters int32 [N, LENGTH], and the labels."""
    rows = [line.split("\t") for line in open(path, encoding="utf-8").read().splitlines()]
    if not rows or {len(row) for row in rows} != {2}:
        raise InputError("lines", "text, tab and label in every line", path, "mend it")
    return np.stack([Labeller.codes(text) for text, _ in rows]), [label for _, label in rows]


def batches(x, y, size, order, first=0, shard=(0, 1)) -> tf.data.Dataset:
    index, count = shard

    def generate():
        rows = order()
        for start in range(first * size, len(x), size):
            part = rows[start : start + size][index::count]
            yield x[part], y[part]

    return dataset_from_generator(generate, -(-len(x) // size) - first, SIGNATURE)


class LineExamples(Examples):
    def __init__(self, job, session):
        self.job = job
        self.x, labels = read(job.lines)
        self.labels = session.known.labels if session.known else sorted(set(labels))
        self.y = np.array([self.labels.index(label) for label in labels], "int32")
        self.held = max(1, int(len(self.x) * job.settings.valid_share))
        self.batches = -(-(len(self.x) - self.held) // job.settings.batch_size)
        self.said = f"{len(self.x)} lines; {len(self.labels)} labels"

    def make(self, steps):
        model = Labeller(self.labels, self.job.settings.units)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer_of(self.job.settings, steps), loss, metrics=["accuracy"])
        return model

    def place(self, run, model):
        """Nothing: the lines stay in memory."""

    def data(self):
        x, y, held, size = self.x, self.y, self.held, self.job.settings.batch_size

        def at(position, shard):
            def order():
                return np.random.default_rng([self.job.seed, position.epoch]).permutation(
                    len(x) - held
                )

            return batches(x[held:], y[held:], size, order, position.batch, shard)

        def valid(shard):
            return batches(x[:held], y[:held], size, lambda: np.arange(held), 0, shard)

        return Data(at, valid, self.batches, size)

    def monitoring(self, model):
        return Monitoring(["val_loss"], lambda epoch: model.label(["good"])[0])


class LabellerWork(Work):
    def read(self, job, session, folder):
        return LineExamples(job, session)

    def evaluate(self, run, say, lines=None):
        model, job = run_folder.load_model(run), run_folder.read_job(run, TASK.job, Settings)
        x, labels = read(lines or job.lines)
        found = model.labels_of(x)
        return {"accuracy": float(np.mean([a == b for a, b in zip(found, labels, strict=True)]))}

    def measure_of(self, run, model, say, **options):
        raise NotImplementedError


WORK = LabellerWork(TASK)
