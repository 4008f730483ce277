"""Make optimizers by name, with learning rate schedule, clipping, accumulation and averages."""

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
    """The learning rate over the steps of a training.

    Attributes:
        highest: the highest learning rate.
        schedule: "constant"; "cosine": up over `warmup` steps, then down along a half cosine
            to a hundredth at `steps` (Loshchilov & Hutter 2017); "inverse_sqrt": up over `warmup`
            steps, then as 1/√step (Vaswani et al. 2017); "plateau": constant, until the callback
            `Plateau` lowers it.
        steps: the number of steps of the whole training.
        warmup: the number of steps over which the rate rises to `highest`.
    """

    highest: float
    schedule: str = "constant"
    steps: int = 0
    warmup: int = 0

    def learning_rate(self):
        """Return a number for a constant rate, else a Keras schedule."""
        if self.schedule == "inverse_sqrt":
            return InverseSquareRoot(self.highest, max(self.warmup, 1))
        if self.schedule != "cosine":
            return self.highest
        # Keras counts the steps of the decay after the warm-up, and divides by them: at least 1.
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
    """Make a Keras optimizer with a learning rate schedule and clipping of gradients.

    Args:
        name: one of `OPTIMIZERS`.
        course: the learning rate over the steps.
        clip: "global_norm" scales all gradients together (Pascanu et al. 2013), "norm" scales
            each gradient alone, "value" limits each number, "none" does not clip.
        clip_at: the largest norm or value that is not clipped.
        weight_decay: decoupled weight decay; None for the default of the optimizer.
        accumulate: the number of batches whose mean gradient makes one step.
        ema: momentum of an exponential moving average of the weights, 0 for no average.

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
    """Refuse unknown names and numbers out of their range (InputError), as `make_optimizer` does.

    The arguments are those of `make_optimizer`.
    """
    for argument, value, names in (
        ("optimizer", name, OPTIMIZERS),
        ("clip", clip, CLIPPING),
        ("schedule", course.schedule, SCHEDULES),
    ):
        if value not in names:
            raise InputError(argument, f"one of {', '.join(names)}", value, "choose one of them")
    for argument, value in (("learning_rate", course.highest), ("clip_at", clip_at)):
        if not 0 < value < math.inf:
            raise InputError(argument, "a number above 0", value, "change it")
    if accumulate < 1:
        raise InputError("accumulate", "1 or more", accumulate, "raise it")
    if not 0 <= ema < 1:
        raise InputError("ema", "a momentum from 0 to below 1", ema, "use 0.999")


def renew_course(optimizer, course: Course) -> None:
    """Give the schedule of `course` to an optimizer that has taken steps already.

    A constant rate stays as it is.

    >>> optimizer = make_optimizer("adam", Course(0.5, "cosine", steps=100))
    >>> renew_course(optimizer, Course(0.5, "cosine", steps=200))
    >>> round(float(optimizer._learning_rate(100)), 4)  # half of the way down to 0.005
    0.2525
    """
    rate = course.learning_rate()
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # In mixed precision the optimizer is wrapped by one that scales the loss.
        getattr(optimizer, "inner_optimizer", optimizer).learning_rate = rate


@keras.saving.register_keras_serializable(package="kerasrnn")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly over `warmup` steps, then fall as 1/√step (Vaswani et al. 2017, equation 3).

    With t = step + 1: rate = highest · min(t / warmup, √(warmup / t)).

    Args:
        highest: the learning rate at the end of the warm-up.
        warmup: the number of steps of the warm-up, 1 or more.

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
