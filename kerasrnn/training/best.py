"""Which epoch is the best one: an ordered list of scores, of which each decides the ties before it.

Everything that asks for the best epoch asks here: the model that is kept, the ring in the learning
curve, early stopping and the last line of `kerasrnn train`.
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
    """The best of these rows; of equal ones the first.

    Args:
        rows: of `history.csv`, one or more.
        scores: names of columns. The first decides, the second where the first is equal, and so on.

    >>> rows = [{"val_exact": 0.0, "val_bleu": 3.0}, {"val_exact": 0.0, "val_bleu": 4.0}]
    >>> best_row(rows, ["val_exact", "val_bleu"])["val_bleu"]
    4.0
    """
    return min(rows, key=lambda row: _cost(row, scores))


def _cost(row: dict, scores: Sequence[str]) -> list[float]:
    """What the best row has least of."""
    return [-row[name] if name in HIGHER_IS_BETTER else row[name] for name in scores]


def count_records(rows: Sequence[dict], scores: Sequence[str]) -> int:
    """How many of these rows were the best when they came.

    >>> count_records([{"nats": 3.0}, {"nats": 2.0}, {"nats": 2.5}], ["nats"])
    2
    """
    costs = [_cost(row, scores) for row in rows]
    lowest = itertools.accumulate(costs, min)
    return len({tuple(cost) for cost in lowest})
