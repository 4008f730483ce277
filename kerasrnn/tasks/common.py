"""The settings that every task has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.settings import AMOUNT, COUNT, Need, Range, check_settings, setting

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
OPTIMIZER = ("clip", "clip_at", "accumulate", "ema")  # settings of every optimizer
SOME = Range("a share between 0 and 1", lambda value: 0 < value < 1, "use 0.1")
WARMUP = Range("0 to below 1", lambda value: 0 <= value < 1)
POSITIVE = Range("a number above 0", lambda value: 0 < value < math.inf)
MOMENTUM = Range("a momentum from 0 to below 1", lambda value: 0 <= value < 1, "use 0.999")
DECAYED = Need("--optimizer adamw", lambda v: v["optimizer"] == "adamw")
CLIPPED = Need("--clip other than none", lambda v: v["clip"] != "none")
SEARCHED = Need("--beam above 1", lambda v: v["beam"] > 1)
# where tables of names stand
CELL = {"choices": "kerasrnn.cells:CELLS", "check": "kerasrnn.cells.choice:cell_class"}
ATTENTIONS = "kerasrnn.attention.scores:ATTENTIONS"
CONDITIONINGS = "kerasrnn.layers.decoder:CONDITIONINGS"
READOUTS = "kerasrnn.layers.readout:READOUTS"


@dataclass(frozen=True)
class CommonSettings:
    """What every task's training can be told."""

    batch_size: int = setting(64, "examples in a batch", range=COUNT)
    epochs: int = setting(20, "passes over the training data", range=COUNT)
    optimizer: str = setting(
        "adam", "what moves the weights", choices="kerasrnn.training.optimizers:OPTIMIZERS"
    )
    learning_rate: float = setting(1e-3, "the highest learning rate", range=POSITIVE)
    weight_decay: float = setting(
        0.0, "share by which weights shrink in a step of rate 1", range=AMOUNT, needs=DECAYED
    )
    schedule: str = setting(
        "cosine",
        "the course of the learning rate",
        choices="kerasrnn.training.optimizers:SCHEDULES",
    )
    warmup: float = setting(
        0.05, "share of all steps in which the learning rate rises", range=WARMUP
    )
    clip: str = setting(
        "global_norm", "how gradients are clipped", choices="kerasrnn.training.optimizers:CLIPPING"
    )
    clip_at: float = setting(1.0, "the largest norm or value", range=POSITIVE, needs=CLIPPED)
    accumulate: int = setting(1, "batches whose mean gradient makes one step", range=COUNT)
    ema: float = setting(
        0.0,
        "momentum of averaged weights, which are then validated and kept; 0: none",
        range=MOMENTUM,
    )
    average_last: int = setting(
        0,
        "last epochs that are averaged, as one more candidate for the best model; 0: none",
        range=AMOUNT,
    )
    patience: int = setting(
        0,
        "epochs without a better model after which training ends, or, with schedule=plateau, "
        "the rate is halved; 0: never, or after 3",
        range=AMOUNT,
    )
    precision: str = setting("float32", "what numbers are computed in", choices=PRECISIONS)
    deterministic: bool = setting(False, "the same bits each time; slower")
    valid_share: float = setting(0.1, "share of the data held out for validation", range=SOME)

    def check(self) -> None:
        """Refuse settings that cannot be, alone or together (InputError)."""
        check_settings(self)


@dataclass(frozen=True)
class TokenSettings(CommonSettings):
    """What the training of every model of tokens can be told."""

    vocabulary: int = setting(
        0, "the most tokens known; 0: all characters, 30,000 words or 8,000 subwords", range=AMOUNT
    )


def check_seed(seed: int) -> None:
    """Refuse a seed that is none (InputError)."""
    if not 0 <= seed < 2**31:
        raise InputError("--seed", "0 to 2147483647", seed, "give one of them")
