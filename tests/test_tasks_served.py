"""A model that is served otherwise than its task says is refused before it is trained."""

import keras
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.kinds import Number, Place, Series
from kerasrnn.models.serving import Served
from kerasrnn.tasks.training import check_served
from tests.toys.sums.task import TASK

SIDES = (Place("left", Series()), Place("right", Series()))


class Other(Served):
    task, takes, gives = "sums", SIDES, (Place("value", Number()),)


@keras.saving.register_keras_serializable("tests_of_tasks")
class Right(keras.Sequential):
    served_class = Other

    def served(self):
        return self.served_class(self)


class Unregistered(Right):
    pass


def refused(model) -> str:
    with pytest.raises(InputError) as error:
        check_served(TASK, model)
    return str(error.value)


def test_what_agrees_is_accepted():
    check_served(TASK, Right())


def test_what_differs_is_named():
    model = Right()
    for changes, message in (
        ({"task": "sum"}, "task of Right.served(): expected sums, got sum; correct it"),
        (
            {"takes": SIDES[:1]},
            "takes of Right.served(): expected right (Series), as sums declares it, got left "
            "(Series); make them agree",
        ),
        (
            {"gives": (Place("value", Series()),)},
            "gives of Right.served(): expected value (Number), as sums declares it, got value "
            "(Series); make them agree",
        ),
    ):
        model.served_class = type("Changed", (Other,), changes)
        assert refused(model) == message
    assert refused(keras.Sequential()).startswith("model: expected a model with a method `served`")
    assert refused(Unregistered()) == (
        "model: expected a class that is registered with keras.saving.register_keras_serializable, "
        "got Unregistered; register it: Keras loads no other"
    )
