"""Measure an ONNX file with the scores of its task, for a comparison of full and quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kerasrnn.export.verify import Case, run_fresh
from kerasrnn.tasks.evaluation import files_for

LINES, IMAGES, TOKENS = 500, 200, 50_000  # the most that is measured, to take about a minute
ROWS = 32  # lines translated together
PORTION = 2**28  # bytes of photos at their full size that lie in memory and on the disk together

Measure = Callable[[Path, str | None], dict]


def measure_of(run: str | Path, model, say: Callable[[str], None], **files) -> Measure:
    """Return the function that measures an ONNX file in ONNX Runtime.

    Args:
        run: the run folder.
        model: its Keras model.
        say: called with a message, for example about data that was left out.
        files: as for `evaluate`; the first `LINES`, `IMAGES` or `TOKENS` of them are used.

    Returns:
        (ONNX file, kind of quantization or None) -> scores by name.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    task, values = files_for(run, files, "export")
    return task.work.measure_of(run, model, say, **values)


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


def exported_texts(path: Path, cases: list[dict]) -> list[str]:
    """Return the best text of each row of the cases."""
    return [text for answer in run_fresh(path, cases) for text in answer["text"][:, 0].tolist()]
