"""What a quantized file is measured on."""

from types import SimpleNamespace

import numpy as np
from PIL import Image

from kerasrnn.tasks import quantizing
from kerasrnn.tasks.captioner import work as captioning


def test_photos_are_answered_a_portion_at_a_time(tmp_path, monkeypatch):
    captioned = []
    for i, side in enumerate((10, 10, 10, 30, 10)):
        path = tmp_path / f"{i}.png"
        Image.fromarray(np.full((side, side, 3), i, np.uint8)).save(path)
        captioned.append(SimpleNamespace(image=path, captions=[str(i)], split=""))
    portions = []

    def run_fresh(path, cases):
        portions.append([case["image"].nbytes for case in cases])
        return [{"text": np.array([[str(case["image"].max())]], object)} for case in cases]

    monkeypatch.setattr(captioning, "measured_images", lambda *_: (None, captioned))
    monkeypatch.setattr(
        captioning, "scores", lambda texts, references: {"pairs": [texts, references]}
    )
    monkeypatch.setattr(quantizing, "run_fresh", run_fresh)
    monkeypatch.setattr(quantizing, "PORTION", 700, raising=False)
    measure = captioning.WORK.measure_of(None, None, print)
    numbers = ["0", "1", "2", "3", "4"]
    assert measure(tmp_path, None) == {"pairs": [numbers, [[n] for n in numbers]], "images": 5}
    assert portions == [[300, 300], [300], [2700], [300]]
