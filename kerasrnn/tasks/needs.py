"""Options of the command line that need another option, or exclude it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kerasrnn.base.errors import InputError

# option of `evaluate` -> the task whose runs take it
EVALUATED = {
    "source": "translator",
    "target": "translator",
    "images": "captioner",
    "captions": "captioner",
}


class Need(NamedTuple):
    """An option that is only allowed together with another option.

    Attributes:
        option: its name, with underscores.
        beside: the other option, as it is typed on the command line.
        fits: values of all options by name -> whether the other option is set as needed.
    """

    option: str
    beside: str
    fits: Callable[[dict], bool]


MEASURED_NEEDS = (
    Need("target", "--source", lambda v: v["source"]),
    Need("images", "--captions", lambda v: v["captions"]),
)
DRAWN_NEEDS = tuple(
    Need(name, "--temperature above 0", lambda v: v["temperature"] != 0)
    for name in ("top_k", "top_p", "seed")
)
SETTING_NEEDS = (
    Need("weight_decay", "--optimizer adamw", lambda v: v["optimizer"] == "adamw"),
    Need("clip_at", "--clip other than none", lambda v: v["clip"] != "none"),
    Need("embeddings_frozen", "--embeddings", lambda v: v["embeddings"]),
    Need("length_penalty", "--beam above 1", lambda v: v["beam"] > 1),
    Need("reinforce_weight", "--conditioning hard", lambda v: v["conditioning"] == "hard"),
    Need("entropy_weight", "--conditioning hard", lambda v: v["conditioning"] == "hard"),
)
# settings that say nothing where another option stands: (setting, the other option)
RIVALS = (
    ("embedding", "embeddings"),  # the file says how wide its vectors are
    ("valid_share", "valid_text"),
    ("valid_share", "valid_source"),
    ("valid_share", "valid_captions"),
)
NEEDS = {
    "settings": SETTING_NEEDS,
    "train translator": (
        Need("valid_target", "--valid-source", lambda v: v["valid_source"]),
        Need("valid_source", "--valid-target", lambda v: v["valid_target"] or v["target"] is None),
    ),
    "generate": DRAWN_NEEDS,
    "evaluate": MEASURED_NEEDS,
    "export": (
        *(
            Need(name, "--quantize", lambda v: v["quantize"])
            for name in ("text", *EVALUATED, "split")
        ),
        *MEASURED_NEEDS,
    ),
}


def check_needs(command: str, values: dict, given) -> None:
    """Refuse an option without the other option that it needs (InputError).

    Args:
        command: a key of `NEEDS`. Any other command passes.
        values: the values of all options, by name.
        given: the names of the options that the user gave.
    """
    for option, beside, fits in NEEDS.get(command, ()):
        if option in given and not fits(values):
            value = values[option]
            received = value[0] if isinstance(value, list) else value
            name, step = option.replace("_", "-"), f"add {beside.split()[0]}, or leave it out"
            raise InputError(f"--{name}", f"{beside} beside it", received, step)


def check_rivals(values: dict, given) -> None:
    """Refuse a setting beside the option that makes it meaningless (InputError).

    Args:
        values: the values of all options and settings, by name.
        given: the names of the settings that the user gave.
    """
    for name, rival in RIVALS:
        if name in given and values.get(rival):
            option, other = (f"--{word.replace('_', '-')}" for word in (name, rival))
            step = f"leave {option} or {other} out"
            raise InputError(option, f"no {other} beside it", values[name], step)
