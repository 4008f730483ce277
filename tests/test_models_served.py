"""What models say of how they are served."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.export import export, load
from kerasrnn.export.forms import answer
from kerasrnn.kinds import KINDS, Number, Place, Series, described, place_of
from kerasrnn.models import LanguageModel
from kerasrnn.models.serving import Served
from kerasrnn.tasks.catalog import TASKS
from tests import test_export as lm
from tests import test_export_translator as translators
from tests.conftest import ROOT
from tests.test_export_streaming import captioner


def models() -> dict:
    return {
        "lm": lm.make("char"),
        "translator": translators.make("word"),
        "captioner": captioner("gated"),
    }


@pytest.fixture(scope="module")
def served() -> dict[str, Served]:
    return {name: model.served() for name, model in models().items()}


def row(one: Served) -> str:
    return f"| {', '.join(map(str, one.takes))} | {', '.join(map(str, one.gives))} |"


def test_readme_has_the_inputs_and_outputs(served):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in TASKS:
        assert row(served[name]) in readme, row(served[name])
        scoring = served[name].scoring
        inputs = [place for place in scoring.takes if "state" not in place.name]
        assert f"| `{name}` | {', '.join(map(str, inputs))} |" in readme


def test_a_task_and_its_model_say_the_same(served):
    for name, task in TASKS.items():
        one = served[name]
        assert one.task == name
        for said, known in ((task.takes, one.takes), (task.gives, one.gives)):
            known = {place.name: place for place in known}
            for place in said:
                assert type(place.kind) is type(known[place.name].kind), place
                assert place.many == known[place.name].many, place


def test_what_is_said_comes_back(served):
    for one in served.values():
        for places in (one.takes, one.gives, one.scoring.takes):
            again = [place_of(line, KINDS) for line in described(places)]
            assert described(again) == described(places)


def test_a_subclass_is_exported_as_its_class(tmp_path):
    @keras.saving.register_keras_serializable(package="tests_of_served")
    class Mine(LanguageModel):
        pass

    model = lm.make("char")
    mine = Mine(model.tokenizer, **model.options)
    [path] = export(mine, tmp_path / "out", ["onnx"])
    case = lm.feed(["The "], 5, 0.0)
    assert load(path)(case)["text"].tolist() == answer(mine.served(), case)["text"].tolist()


class Sums(Served):
    task = "sums"
    takes = (Place("x", Series(2)),)
    gives = (Place("sum", Number()),)

    def core(self, x):
        return tf.reduce_sum(self.model(x), axis=[1, 2])


class Numbers(keras.Sequential):
    def served(self):
        return Sums(self)


def test_a_model_of_numbers_needs_its_core_only(tmp_path):
    keras.utils.set_random_seed(1)
    model = Numbers([keras.layers.Input((None, 2)), keras.layers.Dense(3)])
    paths = export(model, tmp_path / "out", ["onnx", "saved_model"])
    case = {"x": np.arange(12, dtype=np.float32).reshape(2, 3, 2)}
    for path in paths:
        np.testing.assert_allclose(
            load(path)(case)["sum"], answer(model.served(), case)["sum"], rtol=1e-5
        )
    for name in ("streaming", "score"):
        with pytest.raises(InputError, match=r"^format: expected a model that .* of a sums"):
            export(model, tmp_path / name, [name])
