"""Pictures of training."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def learning_curve(rows: list[dict], path: Path) -> None:
    """Draw training and validation nats per token over the epochs, the best one marked.

    Args:
        rows: of `history.csv`: "epoch", "nats" and "val_nats" among the columns.
        path: the PNG to write.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    epochs = [row["epoch"] for row in rows]
    axes.plot(epochs, [row["nats"] for row in rows], ".-", label="training, dropout on")
    axes.plot(epochs, [row["val_nats"] for row in rows], ".-", label="validation")
    best = min(rows, key=lambda row: row["val_nats"])
    where, value = best["epoch"], best["val_nats"]
    ring = {"color": "black", "fillstyle": "none", "markersize": 10, "linestyle": "none"}
    axes.plot(where, value, "o", label=f"best: {value:.4f}, epoch {where}", **ring)
    axes.set(xlabel="epoch", ylabel="nats per token", title="Learning curve")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, format="png")
