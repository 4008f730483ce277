"""What a task declares. Nothing here loads TensorFlow: the command line is made from it.

A task is a folder in `kerasrnn/tasks/` whose `task.py` has a `TASK`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

from kerasrnn.kinds import Place
from kerasrnn.tasks.settings import Need, as_option

# The commands that read the data that a model is measured on.
MEASURING = ("evaluate", "export")


@dataclass(frozen=True)
class Option:
    """An option of the command line that only some tasks have.

    Attributes:
        name: with underscores.
        help: what it is, in a few words.
        metavar: what its value is, as in "FILE".
        commands: the commands that have it.
        required: whether training needs it.
        many: whether it takes several values.
        kind: str, int or float.
        again: whether it may be given several times.
        default: its value where it is not given.
        choices: the values that it may have.
        value: what the option stands for where it takes no value, as in --strict.
        sets: the name under which a job has it, where that is another.
        none: the word that stands for None.
        positional: whether it is given without its name.
        file: whether it names data, which is known by its bytes.
        needs: command -> what it needs there.
    """

    name: str
    help: str
    metavar: str = "FILE"
    commands: Sequence[str] = ("train",)
    required: bool = False
    many: bool = False
    kind: type = str
    again: bool = False
    default: object = None
    choices: Sequence[str] | None = None
    value: object = None
    sets: str = ""
    none: str = ""
    positional: bool = False
    file: bool = False
    needs: Mapping[str, Need] = field(default_factory=dict)

    @property
    def field(self) -> str:
        """The name under which a job has it."""
        return self.sets or self.name

    @property
    def typed(self) -> str:
        """As it is typed: --valid-text."""
        return as_option(self.name)


@dataclass(frozen=True)
class Task:
    """A kind of model: what the command line, training and export know of it.

    Attributes:
        name: as in `kerasrnn train lm`, and in `config.json`.
        noun: what its model is called, with the article.
        verb: the command that uses a model.
        about: what `train` does, in a few words.
        verb_about: what the verb does, likewise.
        package: where the task is, as its `task.py` says it: __package__.
        options: what the task's commands take besides what those of all tasks take.
        settings: the class of the settings.
        takes: the inputs of its models, but for numbers that the user chooses.
        gives: the outputs that they must have.
        presets: settings by name; "small" has the defaults of the class.
        order: of its place among the tasks; small numbers come first.
    """

    name: str
    noun: str
    verb: str
    about: str
    verb_about: str
    package: str
    options: Sequence[Option]
    settings: type
    presets: Mapping[str, object]
    takes: Sequence[Place]
    gives: Sequence[Place]
    order: int = 100

    @property
    def searches(self) -> bool:
        """Whether its models answer by a beam search."""
        return hasattr(self.settings, "beam")

    def options_of(self, command: str) -> list[Option]:
        """The options that a command has."""
        options = [option for option in self.options if command in option.commands]
        if options or command != self.verb:
            return options
        from kerasrnn.tasks.plain_use import options_of

        return options_of(self)

    @property
    def files(self) -> list[str]:
        """The names of the files on which a model is measured."""
        names = {option.name for option in self.options_of("train")}
        return [option.name for option in self.options_of("evaluate") if option.name in names]

    @functools.cached_property
    def job(self) -> type:
        """The class of its jobs."""
        from kerasrnn.tasks.job import job_class

        return job_class(self)

    @property
    def work(self):
        """What trains and measures, a `kerasrnn.tasks.work.Work`; it loads TensorFlow."""
        return importlib.import_module(f"{self.package}.work").WORK

    @property
    def demo(self):
        """Its function `demo(out, say) -> lines to print`, where it has one; else None."""
        if not importlib.util.find_spec(f"{self.package}.demo"):
            return None
        return importlib.import_module(f"{self.package}.demo").demo

    @property
    def use(self):
        """The module `use`, or what the kinds say where there is none.

        It loads no TensorFlow where the model is an ONNX file. Its function
        `answers(options, refuse)` opens a model and returns an iterator of (answer by name, the
        same as a line of text). `options` has those of the verb as attributes; `refuse(error)` says
        that an input is left out, and goes on.
        """
        if importlib.util.find_spec(f"{self.package}.use"):
            return importlib.import_module(f"{self.package}.use")
        from kerasrnn.tasks.plain_use import answers

        return SimpleNamespace(answers=functools.partial(answers, self))
