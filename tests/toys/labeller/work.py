"""Reads lines, trains and measures a labeller."""

import keras
import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.kinds.texts import strings
from kerasrnn.pipelines.pairs import read_pairs
from kerasrnn.tasks.measuring import Measured
from kerasrnn.tasks.training import Monitoring, optimizer_of
from kerasrnn.tasks.work import Examples, Work, data_in_memory
from tests.toys.labeller.model import Labeller
from tests.toys.labeller.task import TASK


def read(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(texts, labels); faulty lines are refused, each with its number."""
    return tuple(zip(*read_pairs(path, arguments=("lines", "lines")), strict=True))


class LineExamples(Examples):
    def __init__(self, job, session):
        self.job, known = job, session.known
        texts, labels = read(job.lines)
        self.labels = known.labels if known else sorted(set(labels))
        self.characters = known.characters if known else sorted(set("".join(texts)))
        tokenizer = Labeller(self.labels, self.characters, 1).tokenizer
        x = tokenizer.tokenize(list(texts)).to_tensor().numpy()
        if new := set(labels) - set(self.labels):
            expected = f"labels of {', '.join(self.labels)}"
            raise InputError("lines", expected, f"{min(new)} too", "leave it out, or train anew")
        y = np.array([self.labels.index(label) for label in labels], "int32")
        settings = job.settings
        held = max(1, int(len(texts) * settings.valid_share))
        self.examples = data_in_memory([x, y], held, settings.batch_size, job.seed)
        self.batches = self.examples.batches
        self.said = f"{len(texts)} lines; {len(self.labels)} labels"

    def make(self, steps):
        model = Labeller(self.labels, self.characters, self.job.settings.units)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer_of(self.job.settings, steps), loss, metrics=["accuracy"])
        return model

    def data(self):
        return self.examples

    def monitoring(self, model):
        return Monitoring(["val_loss"], lambda epoch: " ".join(self.labels))


class LabellerWork(Work):
    def read(self, job, session, folder):
        return LineExamples(job, session)

    def measured(self, known, folder, say, few=False, lines=None):
        texts, labels = read(lines or known.job.lines)
        return Measured(cases=[{"text": strings(texts)}], references=labels)

    def judge(self, answers, references):
        found = [label for answer in answers for label in answer["label"].tolist()]
        right = [a == b for a, b in zip(found, references, strict=True)]
        return {"accuracy": float(np.mean(right))}


WORK = LabellerWork(TASK)
