"""What a setting may be: checked before any data is read."""

from __future__ import annotations

from collections.abc import Iterable

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.hyperparameters import PRECISIONS
from kerasrnn.training.optimizers import Course, check_optimizer

OPTIMIZER = ("clip", "clip_at", "accumulate", "ema")  # settings of every optimizer


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
    check_choices(settings, precision=PRECISIONS)
    options = {name: getattr(settings, name) for name in OPTIMIZER}
    check_optimizer(
        settings.optimizer, Course(settings.learning_rate, settings.schedule), **options
    )
    if not 0 < settings.valid_share < 1:
        raise InputError("valid_share", "a share between 0 and 1", settings.valid_share, "use 0.1")
    if not 0 <= settings.warmup < 1:
        raise InputError("warmup", "0 to below 1", settings.warmup, "change it")
    for name in ("weight_decay", "vocabulary", "patience", "average_last"):
        if getattr(settings, name) < 0:
            raise InputError(name, "0 or more", getattr(settings, name), "change it")
    if not 0 <= seed < 2**31:
        raise InputError("--seed", "0 to 2147483647", seed, "give one of them")
