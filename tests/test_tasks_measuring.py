"""What a model is measured on."""

import keras
import numpy as np
import onnx

from kerasrnn.export import forms
from kerasrnn.tasks import measuring
from kerasrnn.tasks.measuring import Exported, Measured, RunsModel, portions, scores_of
from kerasrnn.tasks.work import Work
from tests import test_export as lm


def test_pictures_are_answered_a_portion_at_a_time(monkeypatch):
    monkeypatch.setattr(measuring, "PORTION", 700)
    cases = [{"image": np.zeros((1, side, side, 3), np.uint8)} for side in (10, 10, 10, 30, 10)]
    sizes = [[case["image"].nbytes for case in portion] for portion in portions(cases)]
    assert sizes == [[300, 300], [300], [2700], [300]]


def test_states_are_handed_on_through_every_portion(tmp_path, monkeypatch):
    """The same text costs the same whole, in pieces, and in pieces that several processes read."""
    keras.utils.set_random_seed(4)
    model = lm.make("char")
    served, text = model.served(), (lm.TEXT * 3)[:240]
    ids = model.tokenizer.tokenize([text]).to_tensor().numpy()

    def truths(width: int):
        for start in range(0, 240, width):
            before = ids[:, start - 1] if start else np.array([2], np.int32)
            fresh = np.array([not start], np.int32)
            yield {"ids": ids[:, start : start + width], "previous": before, "fresh": fresh}

    score = forms.Score(served)
    score.write(tmp_path / "score.onnx", {"task": "lm"})
    exported = Exported(tmp_path / "model.onnx", tmp_path / "score.onnx")
    whole = scores_of(Plain(None), Measured(truths=truths(240)), RunsModel(served))
    assert whole["nats"] > 1 and whole["count"] == 240
    pieces = scores_of(Plain(None), Measured(truths=truths(50)), exported)
    monkeypatch.setattr(measuring, "PORTION", 300)
    apart = scores_of(Plain(None), Measured(truths=truths(50)), exported)
    anew = ({**truth, "fresh": np.array([1], np.int32)} for truth in truths(50))
    forgetful = scores_of(Plain(None), Measured(truths=anew), exported)
    np.testing.assert_allclose([pieces["nats"], apart["nats"]], whole["nats"], rtol=1e-5)
    assert abs(forgetful["nats"] - whole["nats"]) > 1e-4
    names = [value.name for value in onnx.load(tmp_path / "score.onnx").graph.input]
    assert names == ["text", "fresh", "previous", *(f"state_{i}" for i in range(4))]


class Plain(Work):
    def read(self, job, session, folder):
        raise NotImplementedError

    def measured(self, known, folder, say, few=False, **options):
        raise NotImplementedError

    def cost(self, nats, count, measured):
        return {"nats": nats / count, "count": count}
