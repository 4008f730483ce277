"""Finds the tasks: ours, those of packages that are installed, and those that --import names."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points

from kerasrnn import tasks
from kerasrnn.base.errors import InputError
from kerasrnn.tasks.settings import check_need
from kerasrnn.tasks.task import Option, Task

GROUP = "kerasrnn.tasks"  # of the entry points that name a TASK
TASKS: dict[str, Task] = {}


def add_task(task: Task) -> None:
    """Let the command line have a task.

    Raises:
        InputError: when another task has its name or its verb.
    """
    for other in TASKS.values():
        if other is not task and task.name == other.name:
            step = "rename one of them"
            raise InputError("task", f"a name other than {other.package}'s", task.name, step)
        if other is not task and task.verb == other.verb:
            raise InputError("verb", f"another than {other.name}'s", task.verb, "choose another")
    TASKS[task.name] = task


def add_tasks_of(package: str) -> None:
    """Add the task of an imported package, if it has one: `TASK` in its module `task`."""
    module = importlib.import_module(package)
    if hasattr(module, "__path__") and importlib.util.find_spec(f"{package}.task"):
        add_task(importlib.import_module(f"{package}.task").TASK)


def _add_all() -> None:
    folders = [module.name for module in pkgutil.iter_modules(tasks.__path__) if module.ispkg]
    ours = [importlib.import_module(f"{tasks.__name__}.{folder}.task").TASK for folder in folders]
    for task in sorted(ours, key=lambda task: task.order):
        add_task(task)
    for point in entry_points(group=GROUP):
        # A broken package of somebody's must not stop the commands of all tasks.
        try:
            add_task(point.load())
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            said = f"kerasrnn: the task {point.name} of {point.value} is left out ({reason})"
            print(said, file=sys.stderr)


_add_all()


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
