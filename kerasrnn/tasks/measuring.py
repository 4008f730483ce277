"""How a model is measured: the same figures for a run, an ONNX file and a SavedModel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import onnx

from kerasrnn.export.forms import Score, answer
from kerasrnn.export.graphs.cutting import cut_at
from kerasrnn.export.metadata import places_in, read_metadata
from kerasrnn.export.runner import NEXT
from kerasrnn.export.verify import Case, run_fresh
from kerasrnn.kinds import Place, State
from kerasrnn.models.serving import Served

LINES, IMAGES, TOKENS = 500, 200, 50_000  # the most that is measured, where a minute is enough
PORTION = 2**28  # bytes of pictures that lie in memory and on the disk together


@dataclass
class Known:
    """What is known of a model that is measured.

    Attributes:
        settings: of its training.
        takes: its inputs.
        tokenizers: of its texts.
        job: of its run; None for an exported model.
        run: the run folder; None likewise.
        model: of a run, as Keras has it; None likewise.
    """

    settings: object
    takes: Sequence[Place]
    tokenizers: Sequence
    job: object | None = None
    run: Path | None = None
    model: keras.Model | None = None


@dataclass
class Measured:
    """What a model is measured on.

    Attributes:
        cases: inputs, batch by batch.
        references: what `judge` compares the answers with; None where answers are not judged.
        truths: what `scoring` takes, batch by batch; states are handed on. None for a model that
            does not say what a truth costs.
        units: what costs are divided by, besides tokens.
        said: figures beside the scores: what it was, and how much.
        asked: of `model.served`, where a run's own model answers.
    """

    cases: Iterable[Case] = ()
    references: Sequence | None = None
    truths: Iterable[Case] | None = None
    units: float = 0.0
    said: dict = field(default_factory=dict)
    asked: dict = field(default_factory=dict)


class RunsModel:
    """A run's own model, which answers and says what a truth costs."""

    def __init__(self, served: Served):
        self.served = served

    def answers(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The answer to each case."""
        return (answer(self.served, case) for case in cases)

    def costs(self, truths: Iterable[Case]) -> Iterator[Case]:
        """What each truth costs: `nats` and `count` [B]."""
        handed = states_before(self.served.scoring.takes)
        for truth in truths:
            found = answer(self.served.scoring, handed | truth)
            handed = next_of(found)
            yield found


class Exported:
    """An exported model, which a fresh process runs.

    Args:
        path: an ONNX file or a SavedModel.
        scoring: the ONNX file that says what a truth costs, or the same SavedModel.
    """

    def __init__(self, path: Path, scoring: Path):
        self.path, self.scoring = path, scoring

    def answers(self, cases: Iterable[Case]) -> Iterator[Case]:
        """The answer to each case."""
        for portion in portions(cases):
            yield from run_fresh(self.path, portion, timeout=None)

    def costs(self, truths: Iterable[Case]) -> Iterator[Case]:
        """What each truth costs: `nats` and `count` [B]."""
        with tempfile.TemporaryDirectory() as folder:
            path, handed = None, states_before(places_in(read_metadata(self.scoring), "scores"))
            for portion in portions(truths):
                path = path or self._at(portion[0], Path(folder))
                portion[0] = handed | portion[0]
                for found in run_fresh(path, portion, timeout=None):
                    handed = next_of(found)
                    yield found

    def _at(self, truth: Case, folder: Path) -> Path:
        """The file that takes what `truth` has: texts, or ids in their place."""
        if self.scoring.is_dir():
            return self.scoring
        model = onnx.load(self.scoring)
        missing = truth.keys() - {value.name for value in model.graph.input}
        if not missing:
            return self.scoring
        path = folder / Score.file
        onnx.save(cut_at(model, missing), path)
        return path


def states_before(takes: Sequence[Place]) -> Case:
    """States for the first truth, whose values do not matter: it begins anew."""
    states = [p for p in takes if isinstance(p.kind, State) and p.kind.width]
    return {p.name: np.zeros([1, p.kind.width], p.kind.dtype) for p in states}


def next_of(found: Case) -> Case:
    """The states that an answer hands on."""
    return {n.removeprefix(NEXT): v for n, v in found.items() if n.startswith(NEXT)}


def portions(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Yield the cases in lists of up to `PORTION` bytes; a larger case is a list of its own."""
    portion, size = [], 0
    for case in cases:
        case_size = sum(value.nbytes for value in case.values())
        if portion and size + case_size > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(case)
        size += case_size
    if portion:
        yield portion


def scores_of(work, measured: Measured, asked: RunsModel | Exported) -> dict:
    """The scores of a model: how its answers are judged, and what the truth costs.

    Args:
        work: the task's, a `kerasrnn.tasks.work.Work`.
        measured: what it is measured on.
        asked: the model.
    """
    figures: dict = {}
    if measured.references is not None:
        figures |= work.judge(list(asked.answers(measured.cases)), measured.references)
    if measured.truths is not None:
        nats = count = 0.0
        for found in asked.costs(measured.truths):
            nats += float(found["nats"].sum(dtype="float64"))
            count += float(found["count"].sum(dtype="float64"))
        figures |= work.cost(nats, count, measured)
    return figures | measured.said


Measure = Callable[[Path], dict]
