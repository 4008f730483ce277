"""Optimizers by name: clipping, the learning rate's course, accumulation and averages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from kerasrnn.base.errors import InputError

OPTIMIZERS = {
    "adagrad": keras.optimizers.Adagrad,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}
CLIPPING = {
    "global_norm": "global_clipnorm",
    "norm": "clipnorm",
    "value": "clipvalue",
    "none": None,
}
SCHEDULES = ("constant", "cosine", "inverse_sqrt", "plateau")


@dataclass(frozen=True)
class Course:
    """How the learning rate goes during training.

    Attributes:
        highest: the learning rate at its highest.
        schedule: "constant"; "cosine": up over `warmup` steps, then down along a half cosine
            to a hundredth at `steps` (Loshchilov & Hutter 2017); "inverse_sqrt": up over `warmup`
            steps, then as 1/√step (Vaswani et al. 2017); "plateau": constant, for `Plateau`.
        steps: of the whole training.
        warmup: steps of the way up.
    """

    highest: float
    schedule: str = "constant"
    steps: int = 0
    warmup: int = 0

    def learning_rate(self):
        """A number, or one of Keras's schedules."""
        if self.schedule == "inverse_sqrt":
            return InverseSquareRoot(self.highest, max(self.warmup, 1))
        if self.schedule != "cosine":
            return self.highest
        return keras.optimizers.schedules.CosineDecay(
            0.0 if self.warmup else self.highest,
            max(self.steps - self.warmup, 1),
            alpha=0.01,
            warmup_target=self.highest if self.warmup else None,
            warmup_steps=self.warmup,
        )


def make_optimizer(
    name: str,
    course: Course,
    *,
    clip: str = "global_norm",
    clip_at: float = 1.0,
    weight_decay: float | None = None,
    accumulate: int = 1,
    ema: float = 0.0,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer with its learning rate's course and its clipping of gradients.

    Args:
        name: one of `OPTIMIZERS`.
        course: of the learning rate.
        clip: "global_norm" scales all gradients together (Pascanu et al. 2013), "norm" each by
            itself, "value" each number; "none".
        clip_at: the norm or value.
        weight_decay: decoupled decay; None for the optimizer's own default.
        accumulate: batches whose mean gradient makes one step.
        ema: momentum of an exponential moving average of the weights, 0 for none.

    Raises:
        InputError: for an unknown name or a number out of its range.

    >>> make_optimizer("adamw", Course(1e-3)).global_clipnorm
    1.0
    """
    check_optimizer(name, course, clip=clip, clip_at=clip_at, accumulate=accumulate, ema=ema)
    options = {CLIPPING[clip]: clip_at} if CLIPPING[clip] else {}
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    if accumulate > 1:
        options["gradient_accumulation_steps"] = accumulate
    if ema:
        options |= {"use_ema": True, "ema_momentum": ema}
    return OPTIMIZERS[name](course.learning_rate(), **options)


def check_optimizer(
    name: str,
    course: Course,
    *,
    clip: str,
    clip_at: float,
    accumulate: int,
    ema: float,
) -> None:
    """Refuse what `make_optimizer` refuses (InputError)."""
    for argument, value, known in (
        ("optimizer", name, OPTIMIZERS),
        ("clip", clip, CLIPPING),
        ("schedule", course.schedule, SCHEDULES),
    ):
        if value not in known:
            raise InputError(argument, f"one of {', '.join(known)}", value, "choose one of them")
    for argument, value in (("learning_rate", course.highest), ("clip_at", clip_at)):
        if not 0 < value < math.inf:
            raise InputError(argument, "a number above 0", value, "change it")
    if accumulate < 1:
        raise InputError("accumulate", "1 or more", accumulate, "raise it")
    if not 0 <= ema < 1:
        raise InputError("ema", "a momentum from 0 to below 1", ema, "use 0.999")


def renew_course(optimizer, course: Course) -> None:
    """Let an optimizer that has taken steps already go on in this course.

    >>> optimizer = make_optimizer("adam", Course(0.5, "cosine", steps=100))
    >>> renew_course(optimizer, Course(0.5, "cosine", steps=200))
    >>> round(float(optimizer._learning_rate(100)), 4)  # half of the way down to 0.005
    0.2525
    """
    rate = course.learning_rate()
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        getattr(optimizer, "inner_optimizer", optimizer).learning_rate = rate


@keras.saving.register_keras_serializable(package="kerasrnn")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Up in a line over `warmup` steps, then as 1/√step (Vaswani et al. 2017, equation 3).

    Args:
        highest: at the end of the warm-up.
        warmup: steps, 1 or more.

    >>> rate = InverseSquareRoot(0.5, 4)
    >>> [float(rate(step)) for step in (0, 1, 3, 15)]
    [0.125, 0.25, 0.5, 0.25]
    """

    def __init__(self, highest: float, warmup: int):
        self.highest, self.warmup = highest, warmup

    def __call__(self, step):
        t = keras.ops.cast(step, "float32") + 1.0
        up, down = t / self.warmup, keras.ops.sqrt(self.warmup / t)
        return self.highest * keras.ops.minimum(up, down)

    def get_config(self):
        return {"highest": self.highest, "warmup": self.warmup}
