"""What the `use.py` of tasks have in common. Nothing here loads TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError

PLOTS = (".png", ".pdf", ".svg")

# One answer: by name, and as a line of text.
Answer = tuple[dict, str]
Answers = Iterator[Answer]


def answer_of(given: dict, texts: list[str], scores: list[float], n_best: int | None) -> Answer:
    """Return what is said of the N best answers to an input; of the best one without `n_best`.

    Args:
        given: the input by its name.
        texts, scores: of the answers, the best first.
        n_best: as the user asked; None for one answer.

    >>> answer_of({"source": "a"}, ["b"], [-1.0], None)
    ({'source': 'a', 'text': 'b', 'score': -1.0}, 'b')
    >>> answer_of({"source": "a"}, ["b", "c"], [-1.0, -2.0], 2)[0]["text"]
    ['b', 'c']
    """
    found = {"text": texts, "score": scores}
    if n_best is None:
        found = {name: values[0] for name, values in found.items()}
    return {**given, **found}, "\t".join(texts)


def plot_path(typed: str | None) -> Path | None:
    """Return the file for the drawing of --attention, None without the option.

    Raises:
        InputError: when nothing can be drawn there.
    """
    if not typed:
        return None
    path = Path(typed)
    if path.suffix.lower() not in PLOTS:
        raise InputError("--attention", f"a name in {', '.join(PLOTS)}", path, "add .png")
    if not path.absolute().parent.is_dir():
        raise InputError("--attention", "a folder that exists", path.parent, "make it first")
    return path


def numbered(path: Path, number: int) -> Path:
    """Return PLOT.png for number 1, PLOT-2.png for number 2 and so on.

    >>> numbered(Path("a/map.png"), 2).name
    'map-2.png'
    """
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")
