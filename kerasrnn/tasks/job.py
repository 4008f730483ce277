"""One `train TASK` command: which data, what settings, where to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from kerasrnn.tasks.task import Option, Task
from kerasrnn.training.checkpoints import KEEP


@dataclass(frozen=True, kw_only=True)
class CommonJob:
    """What a job of every task has.

    Attributes:
        settings: of the class that the task names.
        seed: of all that is drawn.
        out: the run folder.
        overwrite: whether a run that stands there is replaced.
        strategy: one of `STRATEGIES`.
        keep_checkpoints: how many stay.
        data_service: "host:port" of the dispatcher of a tf.data service, whose workers then read
            the training data.
        start: a run folder; a new run begins with its tokenizer and weights.
    """

    settings: object
    seed: int
    out: str
    overwrite: bool = False
    strategy: str = "auto"
    keep_checkpoints: int = KEEP
    data_service: str | None = None
    start: str | None = None

    task = None  # set by `job_class`

    def files(self) -> dict:
        """Where its data is, by what it is for."""
        return {o.field: getattr(self, o.field) for o in self._options() if self._is_file(o)}

    def told(self) -> dict:
        """What else changes what is trained, besides the settings."""
        words = [o.field for o in self._options() if not self._is_file(o)]
        return {name: getattr(self, name) for name in (*words, "seed")}

    def _options(self) -> list[Option]:
        return self.task.options_of("train")

    def _is_file(self, option: Option) -> bool:
        """Whether the option names data; where it may also be a word, the disk decides."""
        value = getattr(self, option.field)
        return option.file and (not option.none or (bool(value) and Path(value).is_file()))


def job_class(task: Task) -> type[CommonJob]:
    """Return the class of the jobs of a task: `CommonJob` with a field for each of its options."""

    def kind(option: Option) -> type:
        if option.value is not None:
            return type(option.value)
        return list[str] if option.many else option.kind

    fields = [
        (option.field, kind(option))
        if option.required
        else (option.field, kind(option) | None, dataclasses.field(default=option.default))
        for option in task.options_of("train")
    ]
    made = dataclasses.make_dataclass(
        "Job",
        fields,
        bases=(CommonJob,),
        frozen=True,
        kw_only=True,
        namespace={"task": task, "__module__": __name__},
    )
    made.__doc__ = f"One `train {task.name}` command."
    return made
