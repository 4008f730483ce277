"""Choose the best epoch by a list of scores; each score decides ties of the scores before it.

The saved model, the ring in the learning curve, early stopping and the last line of
`kerasrnn train` all use this choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

HIGHER_IS_BETTER = (
    "val_bleu",
    *(f"val_bleu_{n}" for n in (1, 2, 3, 4)),
    "val_chrf",
    "val_exact",
)


def best_row(rows: Sequence[dict], scores: Sequence[str]) -> dict:
    """Return the best row; of equal rows the first.

    Args:
        rows: one or more rows of `history.csv`.
        scores: names of columns. The first decides; the second decides ties of the first, and so
            on.

    >>> rows = [{"val_exact": 0.0, "val_bleu": 3.0}, {"val_exact": 0.0, "val_bleu": 4.0}]
    >>> best_row(rows, ["val_exact", "val_bleu"])["val_bleu"]
    4.0
    """
    return min(rows, key=lambda row: _cost(row, scores))


def _cost(row: dict, scores: Sequence[str]) -> list[float]:
    """Return the scores of a row, with signs such that less is better."""
    return [-row[name] if name in HIGHER_IS_BETTER else row[name] for name in scores]


def count_records(rows: Sequence[dict], scores: Sequence[str]) -> int:
    """Return how many of these rows were better than all rows before them.

    >>> count_records([{"nats": 3.0}, {"nats": 2.0}, {"nats": 2.5}], ["nats"])
    2
    """
    costs = [_cost(row, scores) for row in rows]
    lowest = itertools.accumulate(costs, min)
    return len({tuple(cost) for cost in lowest})
