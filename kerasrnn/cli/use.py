"""The commands that use a model, one for each task."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.cli.answers import answers
from kerasrnn.cli.parsing import input_error_line
from kerasrnn.cli.printing import load_tensorflow, say
from kerasrnn.tasks.catalog import TASKS


def use(args) -> int | None:
    """Answer every input; return 2 where inputs were left out and none is left, else None."""
    [task] = [task for task in TASKS.values() if task.verb == args.command]
    if Path(args.model).is_dir():
        load_tensorflow()
    left_out = answered = 0

    def refuse(error: InputError) -> None:
        nonlocal left_out
        left_out += 1
        say(f"kerasrnn: {input_error_line(error, args)}")

    with answers(args) as write:
        with contextlib.redirect_stdout(sys.stderr):
            found = task.use.answers(args, refuse)
        for data, text in found:
            write(data, text)
            answered += 1
    if left_out:
        say(f"kerasrnn: {left_out} of {left_out + answered} left out")
    return 2 if left_out and not answered else None
