"""Lines in one language in, lines in another out, by a run, an ONNX file or a SavedModel."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrnn.errors import InputError
from kerasrnn.files import replacing
from kerasrnn.tasks.opening import open_model

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
    changed = {"beam": beam, "n_best": n_best, "max_length": max_length}
    changed = {name: value for name, value in changed.items() if value is not None}
    run = open_model(Path(model), lambda path: _from_run(path, changed), "source")
    n_best = changed.pop("n_best", 1)
    exported = Path(model).is_file() or (Path(model) / "saved_model.pb").exists()
    if exported and changed:
        name = next(iter(changed)).replace("_", "-")
        expected = "a run folder beside it, an exported search being fixed"
        raise InputError(f"--{name}", expected, model, f"export again with --{name}")

    def translate(lines: list[str]) -> list[Found]:
        found = run({"source": np.array(lines, object)})
        if found["text"].shape[1] < n_best:
            given = found["text"].shape[1]
            raise InputError("--n-best", f"at most {given}, as exported", n_best, "export again")
        return [_row(found, i, n_best) for i in range(len(lines))]

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


def _from_run(path: Path, changed: dict):
    from kerasrnn import runs
    from kerasrnn.export.translator import Served
    from kerasrnn.tasks.translation import search_of

    model = runs.load_model(path)
    if not hasattr(model, "translate"):
        kind = type(model).__name__
        raise InputError("RUN", "a translator", f"{path}, a {kind}", "use `kerasrnn generate`")
    return Served(model, **search_of(path, model, **changed)).answer


def translate_lines(
    translate: Callable[[list[str]], list[Found]], lines: Iterable[str], rows: int = ROWS
) -> Iterator[Found]:
    """Translate line by line, `rows` at a time; nothing else is held."""
    lines = iter(lines)
    while some := list(itertools.islice(lines, rows)):
        yield from translate(some)


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
    from kerasrnn.plots import attention_map

    with replacing(path) as beside:
        attention_map(found.attention, found.source, found.target, beside)
