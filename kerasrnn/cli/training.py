"""The command that trains, and the one that says what training can be told."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import textwrap

from kerasrnn.base.errors import InputError
from kerasrnn.cli.printing import figures, load_tensorflow, print_result, say
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.settings import check_meaning, described, with_changes

WIDTH = 100  # of a line of `kerasrnn settings`
FAILED = 1  # exit code when the disk fails, a worker is lost or an export differs from its model


def train(args) -> int | None:
    """Train a job of any task and print its best epoch; return an exit code, None for 0."""
    settings = settings_of(args)
    load_tensorflow()
    from kerasrnn.distribution import WorkerLost
    from kerasrnn.tasks import training
    from kerasrnn.training.interruption import Interrupted

    kind = TASKS[args.task].job
    names = {field.name for field in dataclasses.fields(kind)} - {"settings"}
    job = kind(**{name: getattr(args, name) for name in names}, settings=settings)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            best = training.train(job, say, verbose=1 if sys.stderr.isatty() else 2)
        except Interrupted as stop:
            without = " without --overwrite" if args.overwrite else ""
            say(f"kerasrnn: {stop}{without}")
            return stop.exit_code
        except WorkerLost as lost:
            say(f"kerasrnn: {lost}")
            return FAILED
    print_result(args, {"run": args.out, **best}, f"{args.out}: best {figures(best)}")


def show_settings(args) -> None:
    """Print every setting of a task: its value in a preset, what it may be, what it is for."""
    preset = preset_of(args)
    load_tensorflow()  # the names of cells, optimizers and so on stand in its modules
    rows = described(preset)
    names, values = ([str(row[key]) for row in rows] for key in ("name", "value"))
    columns = [max(map(len, column)) + 2 for column in (names, values)]
    lines = []
    for name, value, row in zip(names, values, rows, strict=True):
        value = value.lower() if isinstance(row["value"], bool) else value
        beginning = f"{name:{columns[0]}}{value:{columns[1]}}"
        said = f"{row['help']} ({row['allowed']})" if row["allowed"] else row["help"]
        lines += textwrap.wrap(
            said, WIDTH, initial_indent=beginning, subsequent_indent=" " * sum(columns)
        )
    print_result(args, rows, "\n".join(lines))


def preset_of(args):
    """Return the settings of the preset that the user names."""
    presets = TASKS[args.task].presets
    if args.preset not in presets:
        names = ", ".join(presets)
        raise InputError("--preset", f"one of {names}", args.preset, "choose one of them")
    return presets[args.preset]


def settings_of(args):
    """Return the settings of the preset with the changes from the command line."""
    preset = preset_of(args)
    assignments = [part for group in args.set for part in group]
    for field in dataclasses.fields(preset):
        assignments += [f"{field.name}={value}" for value in getattr(args, field.name) or ()]
    settings = with_changes(preset, assignments)
    changed_names = [assignment.partition("=")[0] for assignment in assignments]
    check_meaning(settings, vars(args), changed_names)
    return settings
