"""Evaluate the best model of a run, for any task."""

from __future__ import annotations

from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.catalog import TASKS, check_needs, options_of, owners
from kerasrnn.tasks.task import Task


def files_for(run: str | Path, files: dict, command: str = "evaluate") -> tuple[Task, dict]:
    """Return the task of a run, and the options of `command` that its task has.

    Args:
        run: the run folder.
        files: values of the options by name, as for `evaluate`.
        command: "evaluate" or "export".

    Returns:
        (task, values by name, the default for a name without a value).

    Raises:
        InputError: when the run cannot be used, an option is not for its task, or a file needs
            another one that is missing.
    """
    name = run_folder.read_config(run).get("task")
    if name not in TASKS:
        raise InputError("RUN", f"a run of {', '.join(TASKS)}", name, "give another folder")
    task = TASKS[name]
    options = {option.name: option for option in task.options_of(command)}
    for name, value in files.items():
        if value and name not in options:
            raise _foreign(name, value, task, command)
    given_names = [name for name, value in files.items() if value]
    values = {name: files.get(name) or option.default for name, option in options.items()}
    check_needs(command, values, given_names, task.name)
    if not given_names and not run_data.sources(run_folder.read_config(run)):
        expected, step = "a run that says what it was trained on", f"give --{task.files[0]}"
        raise InputError("RUN", expected, f"{run}, which does not", step)
    return task, values


def _foreign(name: str, value, task: Task, command: str) -> InputError:
    """Return the error about an option of another task."""
    option = options_of(command)[name]
    if option.value is not None:
        nouns = " or ".join(f"{owner.noun}'s" for owner in owners(name, command))
        return InputError(option.typed, f"{nouns} run beside it", task.noun, "leave it out")
    wanted = " and ".join(f"--{n}" for n in task.files)
    received = value[0] if isinstance(value, list) else value
    return InputError(option.typed, f"{wanted} for {task.noun}", received, f"give {wanted}")


def evaluate(run: str | Path, say=lambda text: None, **options) -> dict:
    """Return the scores of a run's best model, on the given files or on its validation data.

    Args:
        run: the run folder.
        say: called with a message, for example about data that was left out.
        options: values of the options that `kerasrnn evaluate` has for the task, by name; None
            where one is not given.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    task, values = files_for(run, options)
    if not any(values.values()):
        names = ", ".join(run_data.sources(run_folder.read_config(run)))
        say(f"reading what {run} names: {names}")
    return task.work.evaluate(run, say, **values)
