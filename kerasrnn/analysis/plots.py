"""Draws learning curves and attention."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def learning_curve(rows: list[dict], best: dict, score: str) -> Figure:
    """Draw training and validation loss over the epochs, with a mark at the model that is kept.

    Args:
        rows: the rows of `history.csv`, with "epoch". The curves are the columns "nats", per token,
            and "val_nats" where they exist, else "loss" and "val_loss".
        best: the row of the model that is kept.
        score: the column by which it was chosen.

    Returns:
        The figure, which is not written to a file.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    name, unit = ("nats", "nats per token") if "val_nats" in best else ("loss", "loss")
    epochs = [row["epoch"] for row in rows]
    axes.plot(epochs, [row[name] for row in rows], ".-", label="training, dropout on")
    axes.plot(epochs, [row[f"val_{name}"] for row in rows], ".-", label="validation")
    ring = {"color": "black", "fillstyle": "none", "markersize": 10, "linestyle": "none"}
    # A mean of several epochs is a model too, but not a row of the history.
    where = f"epoch {best['epoch']}" if best in rows else "the mean of the last epochs"
    label = f"best: {where}, {score} {best[score]:.4f}"
    axes.plot(best["epoch"], best[f"val_{name}"], "o", label=label, **ring)
    axes.set(xlabel="epoch", ylabel=unit, title="Learning curve")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def attention_map(weights, source: list[str], target: list[str], path: Path) -> None:
    """Draw the attention of each target token to each source token.

    Args:
        weights: [T, S], rows of numbers from 0 to 1.
        source: S tokens, along the top.
        target: T tokens, down the side.
        path: the PNG to write.
    """
    size = (2.0 + 0.34 * len(source), 1.6 + 0.3 * len(target))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(source)), [_visible(token) for token in source], rotation=60)
    axes.set_yticks(range(len(target)), [_visible(token) for token in target])
    for label in axes.get_xticklabels():
        label.set(horizontalalignment="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="attention", shrink=0.8)
    figure.savefig(path, dpi=120, format="png")


def attention_over_image(image, words: list[str], attention, path: Path) -> None:
    """Draw an image once for each word, with the word above and its attention as brightness.

    Args:
        image: uint8 [h, w, 3].
        words: T words.
        attention: [T, G, G], rows from the top; zeros where a word has none.
        path: the PNG to write.
    """
    height, width = image.shape[:2]
    panels = [(None, "image"), *zip(attention, words, strict=True)]
    columns = min(len(panels), 5)
    rows = -(-len(panels) // columns)  # rounded up
    figure = Figure(figsize=(2.4 * columns, 0.35 + 2.35 * rows * height / width), layout="tight")
    for index, (weights, word) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        placement = {"extent": (0, width, height, 0)}
        if weights is None:
            axes.imshow(image, **placement)
        else:
            axes.imshow(image @ GREY, cmap="gray", vmin=0, vmax=255, **placement)
            # The colours go from 0 to the largest weight, which may be 0 in all places.
            most = max(float(weights.max()), 1e-9)
            options = {"cmap": "inferno", "alpha": 0.6, "vmin": 0.0, "vmax": most}
            axes.imshow(weights, interpolation="bicubic", **options, **placement)
        axes.set_title(_visible(word), fontsize=11)
        axes.set_axis_off()
    figure.savefig(path, dpi=120, format="png")


GREY = (0.299, 0.587, 0.114)  # the share of red, green and blue in brightness (ITU-R BT.601)


def _visible(token: str) -> str:
    """The token with visible marks for white space, and dollars escaped.

    Matplotlib reads text between dollars as mathematics.
    """
    token = token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return token.replace("$", r"\$")
