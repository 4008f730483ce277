"""What the labeller declares."""

from dataclasses import dataclass

from kerasrnn.kinds import Label, Number, Place, Text
from kerasrnn.tasks.common import CommonSettings
from kerasrnn.tasks.settings import COUNT, inherited, setting
from kerasrnn.tasks.task import MEASURING, Option, Task


@dataclass(frozen=True)
class Settings(CommonSettings):
    """What the training of a labeller can be told."""

    units: int = setting(16, "of the state", range=COUNT)
    batch_size: int = inherited(CommonSettings, "batch_size", 8)


TASK = Task(
    name="labeller",
    noun="a labeller",
    verb="label",
    about="a labeller from lines of text and label",
    verb_about="label line by line",
    package=__package__,
    options=[
        Option(
            "lines", "text, tab, label", commands=["train", *MEASURING], required=True, file=True
        )
    ],
    settings=Settings,
    presets={"small": Settings(epochs=3, learning_rate=0.05)},
    takes=[Place("text", Text())],
    gives=[Place("label", Label()), Place("probability", Number())],
)
