"""Choose the best epoch by a list of scores; each score decides ties of the scores before it.

The saved model, the ring in the learning curve, early stopping and the last line of
`kerasrnn train` all use this choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from kerasrnn.base.errors import InputError

HIGHER = "+"  # before the name of a column that is the better the higher it is


def column_of(score: str) -> str:
    """The column of `history.csv` that a score names."""
    return score.removeprefix(HIGHER)


def best_row(rows: Sequence[dict], scores: Sequence[str]) -> dict:
    """Return the best row; of equal rows the first.

    Args:
        rows: one or more rows of `history.csv`.
        scores: names of columns, such as "val_loss", the lower the better, or "+val_accuracy", the
            higher the better. The first decides; the second decides ties of the first, and so on.

    Raises:
        InputError: when there is no such column.

    >>> rows = [{"val_exact": 0.0, "val_bleu": 3.0}, {"val_exact": 0.0, "val_bleu": 4.0}]
    >>> best_row(rows, ["+val_exact", "+val_bleu"])["val_bleu"]
    4.0
    """
    return min(rows, key=lambda row: _cost(row, scores))


def _cost(row: dict, scores: Sequence[str]) -> list[float]:
    """Return the scores of a row, with signs such that less is better."""
    for score in scores:
        if column_of(score) not in row:
            expected = f"one of {', '.join(name for name in row if name.startswith('val_'))}"
            raise InputError("scores", expected, score, "name a column of history.csv")
    return [-row[column_of(s)] if s.startswith(HIGHER) else row[s] for s in scores]


def count_records(rows: Sequence[dict], scores: Sequence[str]) -> int:
    """Return how many of these rows were better than all rows before them.

    >>> count_records([{"nats": 3.0}, {"nats": 2.0}, {"nats": 2.5}], ["nats"])
    2
    """
    costs = [_cost(row, scores) for row in rows]
    lowest = itertools.accumulate(costs, min)
    return len({tuple(cost) for cost in lowest})
