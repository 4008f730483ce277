"""Lines in one language in, lines in another out, by a run, an ONNX file or a SavedModel."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import replacing
from kerasrnn.tasks.opening import open_model
from kerasrnn.tasks.translator.task import TASK
from kerasrnn.tasks.using import Answers, answer_of, numbered, plot_path

ROWS = 32  # lines translated at once


@dataclass
class Found:
    """What became of one line, best first.

    Attributes:
        texts, scores: of the N best.
        source, target: the tokens of the line and of the best translation.
        attention: [len(target), len(source)] of the best one.
    """

    texts: list[str]
    scores: list[float]
    source: list[str]
    target: list[str]
    attention: np.ndarray


def answers(options, refuse) -> Answers:
    """Translate a file or stdin line by line; see `kerasrnn.tasks.task`."""
    path = plot_path(options.attention)
    # A person who types lines wants each answer at once; from a file, batches are faster.
    rows = 1 if options.file is None and sys.stdin.isatty() else ROWS
    run = open_translator(options.model, options.beam, options.n_best, options.max_length)

    def found() -> Answers:
        translations = translate_lines(run, lines_of(options.file), rows)
        for number, (line, row) in enumerate(translations, 1):
            yield answer_of({"source": line}, row.texts, row.scores, options.n_best)
            if path:
                plot(row, numbered(path, number))

    return found()


def open_translator(
    model: str, beam: int | None, n_best: int | None, max_length: int | None
) -> Callable[[list[str]], list[Found]]:
    """A translator of lists of lines.

    Args:
        model: a run folder, an ONNX file or a SavedModel.
        beam, n_best, max_length: None for the run's own; an exported model's are fixed.

    Raises:
        InputError: when the model or an argument cannot be used.
    """
    run = open_model(model, TASK, beam=beam, n_best=n_best, max_length=max_length)

    def translate(lines: list[str]) -> list[Found]:
        found = run({"source": np.array(lines, object)})
        return [_row(found, i, n_best or 1) for i in range(len(lines))]

    return translate


def _row(found: dict, i: int, n_best: int) -> Found:
    source = [token for token in found["source_tokens"][i].tolist() if token]
    target = [token for token in found["target_tokens"][i].tolist() if token]
    return Found(
        found["text"][i, :n_best].tolist(),
        found["score"][i, :n_best].tolist(),
        source,
        target,
        found["attention"][i, : len(target), : len(source)],
    )


def translate_lines(
    translate: Callable[[list[str]], list[Found]], lines: Iterable[str], rows: int = ROWS
) -> Iterator[tuple[str, Found]]:
    """(line, what became of it), `rows` at a time; nothing else is held."""
    lines = iter(lines)
    while some := list(itertools.islice(lines, rows)):
        yield from zip(some, translate(some), strict=True)


def lines_of(file: str | None) -> Iterator[str]:
    """The lines of a file, plain or gzip, or of stdin, without their ends.

    Raises:
        InputError: naming the line that is not UTF-8.
    """
    from kerasrnn.pipelines.reading import lines

    rows = sys.stdin.buffer if file is None else lines(Path(file), "FILE")
    for number, row in enumerate(rows, 1):
        try:
            yield row.rstrip(b"\r\n").decode()
        except UnicodeDecodeError as error:
            place = f"line {number} of {file or 'the input'} ({error.reason})"
            raise InputError("FILE", "UTF-8", place, "convert it") from None


def plot(found: Found, path: Path) -> None:
    """Draw where the best translation looked."""
    from kerasrnn.analysis.plots import attention_map

    with replacing(path) as beside:
        attention_map(found.attention, found.source, found.target, beside)
