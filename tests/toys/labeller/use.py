"""Labels lines by a run."""

import sys
from pathlib import Path

import numpy as np

from kerasrnn.tasks.opening import open_model
from kerasrnn.tasks.using import Answers
from tests.toys.labeller.task import TASK


def from_run(path, model):
    return lambda inputs: {"label": np.array(model.label(inputs["text"].tolist()), object)}


def answers(options, refuse) -> Answers:
    run = open_model(Path(options.model), from_run, TASK)
    lines = (sys.stdin if options.file is None else open(options.file, encoding="utf-8")).read()
    texts = lines.splitlines()
    labels = run({"text": np.array(texts, object)})["label"]
    return (({"text": t, "label": la}, str(la)) for t, la in zip(texts, labels, strict=True))
