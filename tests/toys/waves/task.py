"""What the waves declare."""

from dataclasses import dataclass

from kerasrnn.kinds import Choice, Place, Series
from kerasrnn.tasks.common import CommonSettings
from kerasrnn.tasks.settings import COUNT, inherited, setting
from kerasrnn.tasks.task import MEASURING, Option, Task


@dataclass(frozen=True)
class Settings(CommonSettings):
    """What the training of waves can be told."""

    units: int = setting(8, "of the state", range=COUNT)
    window: int = setting(12, "steps of an example", range=COUNT)
    batch_size: int = inherited(CommonSettings, "batch_size", 4)


TASK = Task(
    name="waves",
    noun="waves",
    verb="wave",
    about="waves from a file of numbers",
    verb_about="write a wave",
    package=__package__,
    options=[
        Option("numbers", "one a line", commands=["train", *MEASURING], required=True, file=True)
    ],
    settings=Settings,
    presets={"small": Settings(epochs=3, learning_rate=0.02)},
    takes=[
        Place("length", Choice("int32", 1, 200, 20), "Steps"),
        Place("seed", Choice("int32", 0, 2**31 - 1, 1), "Seed"),
    ],
    gives=[Place("wave", Series())],
)
