"""The commands that train."""

from __future__ import annotations

import contextlib
import dataclasses
import sys

from kerasrnn.base.errors import InputError
from kerasrnn.cli.printing import figures, load_tensorflow, print_result, say
from kerasrnn.tasks.hyperparameters import PRESETS
from kerasrnn.tasks.needs import check_needs, check_rivals
from kerasrnn.tasks.settings import with_changes

COMMON = ("overwrite", "strategy", "keep_checkpoints", "data_service", "start")  # of all jobs
FAILED = 1  # exit code when the disk fails, a worker is lost or an export differs from its model


def train_lm(args) -> int | None:
    settings = settings_of(args)
    load_tensorflow()
    from kerasrnn.tasks import language_model as task

    names = ("text", "valid_text", "level", "seed", "out")
    return _train(args, task, names, settings=settings, faults=_faults(args))


def train_translator(args) -> int | None:
    settings = settings_of(args)
    load_tensorflow()
    from kerasrnn.tasks import translation as task

    names = ("source", "target", "level", "seed", "out", "valid_source", "valid_target")
    return _train(args, task, names, settings=settings, faults=_faults(args))


def train_captioner(args) -> int | None:
    settings = settings_of(args)
    load_tensorflow()
    from kerasrnn.tasks import captioning as task

    names = ("images", "captions", "valid_captions", "cache", "strict", "level", "seed", "out")
    weights = None if args.cnn_weights == "none" else args.cnn_weights
    return _train(args, task, names, settings=settings, cnn_weights=weights)


def _faults(args) -> str:
    """Return what to do with faulty lines: "drop" or "refuse"."""
    return "drop" if args.drop_faulty else "refuse"


def settings_of(args):
    """Return the settings of the preset with the changes from the command line."""
    presets = PRESETS[args.task]
    if args.preset not in presets:
        names = ", ".join(presets)
        raise InputError("--preset", f"one of {names}", args.preset, "choose one of them")
    preset = presets[args.preset]
    assignments = [part for group in args.set for part in group]
    for field in dataclasses.fields(preset):
        assignments += [f"{field.name}={value}" for value in getattr(args, field.name) or ()]
    settings = with_changes(preset, assignments)
    changed_names = [assignment.partition("=")[0] for assignment in assignments]
    check_needs("settings", vars(settings), changed_names)
    check_rivals(vars(args) | vars(settings), changed_names)
    return settings


def _train(args, task, names: tuple[str, ...], **values) -> int | None:
    """Train a job of any task and print its best epoch; return an exit code, None for 0.

    Args:
        names: the options that the job has besides those of all jobs.
        values: fields of the job that are no option as it was typed.
    """
    from kerasrnn.distribution import WorkerLost
    from kerasrnn.training.interruption import Interrupted

    job = task.Job(**{name: getattr(args, name) for name in (*names, *COMMON)}, **values)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            best = task.train(job, say, verbose=1 if sys.stderr.isatty() else 2)
        except Interrupted as stop:
            without = " without --overwrite" if args.overwrite else ""
            say(f"kerasrnn: {stop}{without}")
            return stop.exit_code
        except WorkerLost as lost:
            say(f"kerasrnn: {lost}")
            return FAILED
    print_result(args, {"run": args.out, **best}, f"{args.out}: best {figures(best)}")
