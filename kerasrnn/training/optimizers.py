"""Optimizers by name: clipping, the learning rate's course, accumulation and averages."""

from __future__ import annotations

import math

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


def make_optimizer(
    name: str,
    learning_rate: float,
    *,
    schedule: str = "constant",
    steps: int = 0,
    warmup: int = 0,
    clip: str = "global_norm",
    clip_at: float = 1.0,
    weight_decay: float | None = None,
    accumulate: int = 1,
    ema: float = 0.0,
) -> keras.optimizers.Optimizer:
    """A Keras optimizer with its learning rate's course and its clipping of gradients.

    Args:
        name: one of `OPTIMIZERS`.
        learning_rate: at its highest.
        schedule: "constant"; "cosine": up over `warmup` steps, then down along a half cosine
            to a hundredth at `steps` (Loshchilov & Hutter 2017); "inverse_sqrt": up over `warmup`
            steps, then as 1/√step (Vaswani et al. 2017); "plateau": constant, for `Plateau`.
        clip: "global_norm" scales all gradients together (Pascanu et al. 2013), "norm" each by
            itself, "value" each number; "none".
        clip_at: the norm or value.
        weight_decay: decoupled decay; None for the optimizer's own default.
        accumulate: batches whose mean gradient makes one step.
        ema: momentum of an exponential moving average of the weights, 0 for none.

    Raises:
        InputError: for an unknown name or a number out of its range.

    >>> make_optimizer("adamw", 1e-3).global_clipnorm
    1.0
    """
    known = {"schedule": schedule, "clip": clip, "clip_at": clip_at}
    check_optimizer(name, learning_rate, accumulate=accumulate, ema=ema, **known)
    options = {CLIPPING[clip]: clip_at} if CLIPPING[clip] else {}
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    if accumulate > 1:
        options["gradient_accumulation_steps"] = accumulate
    if ema:
        options |= {"use_ema": True, "ema_momentum": ema}
    return OPTIMIZERS[name](course(schedule, learning_rate, steps, warmup), **options)


def check_optimizer(
    name: str,
    learning_rate: float,
    *,
    schedule: str,
    clip: str,
    clip_at: float,
    accumulate: int,
    ema: float,
) -> None:
    """Refuse what `make_optimizer` refuses (InputError)."""
    for argument, value, known in (
        ("optimizer", name, OPTIMIZERS),
        ("clip", clip, CLIPPING),
        ("schedule", schedule, SCHEDULES),
    ):
        if value not in known:
            raise InputError(argument, f"one of {', '.join(known)}", value, "choose one of them")
    for argument, value in (("learning_rate", learning_rate), ("clip_at", clip_at)):
        if not 0 < value < math.inf:
            raise InputError(argument, "a number above 0", value, "change it")
    if accumulate < 1:
        raise InputError("accumulate", "1 or more", accumulate, "raise it")
    if not 0 <= ema < 1:
        raise InputError("ema", "a momentum from 0 to below 1", ema, "use 0.999")


def renew_course(optimizer, schedule: str, highest: float, steps: int, warmup: int) -> None:
    """Let the learning rate of an optimizer that has taken steps go on in the course for `steps`
    in all; arguments as in `make_optimizer`.

    >>> optimizer = make_optimizer("adam", 0.5, schedule="cosine", steps=100)
    >>> renew_course(optimizer, "cosine", 0.5, 200, 0)
    >>> round(float(optimizer._learning_rate(100)), 4)  # half of the way down to 0.005
    0.2525
    """
    rate = course(schedule, highest, steps, warmup)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        getattr(optimizer, "inner_optimizer", optimizer).learning_rate = rate


def course(schedule: str, highest: float, steps: int, warmup: int):
    """The learning rate, or its course; arguments as in `make_optimizer`."""
    if schedule == "inverse_sqrt":
        return InverseSquareRoot(highest, max(warmup, 1))
    if schedule != "cosine":
        return highest
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else highest,
        max(steps - warmup, 1),
        alpha=0.01,
        warmup_target=highest if warmup else None,
        warmup_steps=warmup,
    )


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
