"""What training a task's model has in common with any other task's."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kerasrnn import runs
from kerasrnn.errors import InputError
from kerasrnn.pipelines.dataset import Position
from kerasrnn.text import TOKENIZERS, Tokenizer
from kerasrnn.training import (
    BestModel,
    HistoryFile,
    Samples,
    Speed,
    StopOnNaN,
    TokenCrossEntropy,
    cost,
    make_optimizer,
)


@dataclass(frozen=True)
class CommonSettings:
    """What every task's training can be told.

    `vocabulary` is the most tokens known (0: all characters, 30,000 words, 8,000 subwords);
    `warmup` a share of all steps; `valid_share` of the data is held out where nothing else says
    what validates.
    """

    vocabulary: int = 0
    batch_size: int = 64
    epochs: int = 20
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.05
    clip: str = "global_norm"
    clip_at: float = 1.0
    valid_share: float = 0.1


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def tokenizer_of(level: str, texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer for the texts; `vocabulary` is the most tokens known, 0 for the level's own."""
    kind = TOKENIZERS[level]
    return kind.from_texts(texts, vocabulary) if vocabulary else kind.from_texts(texts)


def optimizer_of(settings, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that the settings name; `steps` is the length of all training."""
    names = ("learning_rate", "schedule", "clip", "clip_at")
    options = {name: getattr(settings, name) for name in names}
    decay = settings.weight_decay if settings.optimizer == "adamw" else None
    warmup = int(settings.warmup * steps)
    return make_optimizer(
        settings.optimizer, steps=steps, warmup=warmup, weight_decay=decay, **options
    )


def compiled(make: Callable[[], keras.Model], settings, steps: int) -> keras.Model:
    """The model that `make` makes, ready to learn sentences; `steps` is the length of all training.

    Raises:
        InputError: when the sizes of its layers do not fit together.
    """
    optimizer, loss = optimizer_of(settings, steps), TokenCrossEntropy(settings.label_smoothing)
    try:
        model = make()
    except ValueError as error:
        received = str(error).rstrip(".")
        raise InputError("--set", "sizes that fit together", received, "change them") from error
    model.compile(optimizer, loss)
    return model


@dataclass
class Data:
    """What a model is trained and validated on.

    Attributes:
        at: position -> training dataset.
        valid: validation dataset.
        batches: in an epoch.
        tokens_per_batch: target tokens, on average.
    """

    at: Callable[[Position], tf.data.Dataset]
    valid: tf.data.Dataset
    batches: int
    tokens_per_batch: float


def carry_on(
    model: keras.Model,
    run: Path,
    progress: runs.Progress,
    data: Data,
    *,
    epochs: int,
    monitor: str,
    sample: Callable[[int], str],
    scored: list[keras.callbacks.Callback] = (),
    carried=None,
    verbose: int = 1,
) -> dict:
    """Train from where `progress` stands to the end of `epochs`, into the run folder.

    Args:
        monitor: the column of `history.csv` that says which model is best.
        sample: epoch -> text to show after it.
        scored: callbacks that add columns.
        carried: the model's training state, if it carries one.
        verbose: as Keras's.

    Returns:
        The best row of `history.csv`.

    Raises:
        runs.Interrupted: when the user stopped it.
    """
    checkpoints = runs.Checkpoints(run, progress, data.batches, epochs, carried)
    callbacks = [
        StopOnNaN(),
        Speed(data.tokens_per_batch),
        *scored,
        HistoryFile(run, progress.rows),
        BestModel(run / runs.MODEL, monitor, progress.rows),
        Samples(run / "samples.txt", sample),
        checkpoints,
    ]
    with runs.stopping(checkpoints.asked):
        runs.fit(model, data.at, data.valid, progress, epochs, callbacks, verbose)
    return min(progress.rows, key=lambda row: cost(row, monitor))


def check_choices(settings, **known: Iterable[str]) -> None:
    """Refuse a setting that is none of those known by its name (InputError)."""
    for name, names in known.items():
        value = getattr(settings, name)
        if value not in names:
            raise InputError(name, f"one of {', '.join(names)}", value, "choose one of them")


def check_counts(settings, *names: str) -> None:
    """Refuse a setting of these names that is below 1 (InputError)."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(name, "1 or more", getattr(settings, name), "raise it")


def check_shares(settings, *names: str) -> None:
    """Refuse a setting of these names that is no share from 0 to below 1 (InputError)."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise InputError(name, "a share from 0 to below 1", value, "change it")


def check_common(settings, seed: int) -> None:
    """Refuse what no task can train with (InputError)."""
    check_counts(settings, "batch_size", "epochs")
    if not 0 < settings.valid_share < 1:
        raise InputError("valid_share", "a share between 0 and 1", settings.valid_share, "use 0.1")
    if not 0 <= settings.warmup < 1:
        raise InputError("warmup", "0 to below 1", settings.warmup, "change it")
    for name in ("weight_decay", "vocabulary"):
        if getattr(settings, name) < 0:
            raise InputError(name, "0 or more", getattr(settings, name), "change it")
    if not 0 <= seed < 2**31:
        raise InputError("--seed", "0 to 2147483647", seed, "give one of them")
