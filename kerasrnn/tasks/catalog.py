"""Finds the tasks."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from kerasrnn import tasks
from kerasrnn.tasks.settings import check_need
from kerasrnn.tasks.task import Option, Task


def _find() -> dict[str, Task]:
    """The tasks in the folders beside this file, by name."""
    folders = [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]
    found = [importlib.import_module(f"kerasrnn.tasks.{folder}.task").TASK for folder in folders]
    return {task.name: task for task in sorted(found, key=lambda task: task.order)}


TASKS = _find()


def owners(name: str, command: str) -> list[Task]:
    """The tasks whose `command` has the option `name`."""
    return [t for t in TASKS.values() if name in [o.name for o in t.options_of(command)]]


def options_of(command: str) -> dict[str, Option]:
    """The options that `command` has for any task, by name."""
    return {o.name: o for task in TASKS.values() for o in task.options_of(command)}


def check_needs(command: str, values: dict, given: Iterable[str], task: str = "") -> None:
    """Refuse an option without the other option that it needs (InputError).

    Args:
        command: "train", "evaluate", …
        values: the values of all options, by name.
        given: the names of the options that the user gave.
        task: the name of the task, where it is known.
    """
    given = list(given)
    options = TASKS[task].options_of(command) if task else options_of(command).values()
    for option in options:
        if option.name in given and command in option.needs:
            check_need(option.name, option.needs[command], values)
