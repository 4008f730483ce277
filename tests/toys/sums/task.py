"""What the sums declare."""

from dataclasses import dataclass

from kerasrnn.kinds import Number, Place, Series
from kerasrnn.tasks.common import CommonSettings
from kerasrnn.tasks.settings import COUNT, inherited, setting
from kerasrnn.tasks.task import MEASURING, Option, Task


@dataclass(frozen=True)
class Settings(CommonSettings):
    """What the training of sums can be told."""

    units: int = setting(8, "of the state", range=COUNT)
    window: int = setting(5, "steps of truncated back-propagation", range=COUNT)
    batch_size: int = inherited(CommonSettings, "batch_size", 4)


TASK = Task(
    name="sums",
    noun="sums",
    verb="sum",
    about="sums from a table",
    verb_about="say the last number of each row's series",
    package=__package__,
    options=[
        Option(
            "table",
            "CSV: left, right, value in the order of time",
            commands=["train", *MEASURING],
            required=True,
            file=True,
        )
    ],
    settings=Settings,
    presets={"small": Settings(epochs=3, learning_rate=0.02)},
    takes=[Place("left", Series(), "left"), Place("right", Series(), "right")],
    gives=[Place("value", Number())],
)
