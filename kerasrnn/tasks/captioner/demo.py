"""The demo of captioners: drawn scenes of shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.pipelines.scenes import is_true, scene, write_scenes
from kerasrnn.tasks.captioner.task import TASK
from kerasrnn.tasks.captioner.use import open_captioner, plot
from kerasrnn.tasks.demo import common_text
from kerasrnn.tasks.exporting import export_run
from kerasrnn.tasks.training import train

SCENES = 4000  # pictures to train on


def demo(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a captioner that says which shapes a picture shows and where."""
    files = write_scenes(out / "scenes", train=SCENES, valid=200)
    run, exported = out / "scenes-run", out / "scenes-export"
    job = TASK.job(
        images=str(files.images),
        captions=str(files.train),
        settings=TASK.presets["tiny"],
        seed=0,
        out=str(run),
        valid_captions=str(files.valid),
    )
    train(job, say, verbose=2)
    export_run(run, exported, ("onnx", "saved_model"))
    written = [exported / name for name in ("model.onnx", "saved_model")]
    # The number of a scene fixes its content; the model was trained on the numbers below `SCENES`.
    unseen = [scene(0, number) for number in range(SCENES, SCENES + 200)]
    paths = [str(path) for path in (run, *written)]
    captioners = {path: open_captioner(path, None, None, None) for path in paths}
    captions = {path: [c(s.image) for s in unseen[:4]] for path, c in captioners.items()}
    texts = {path: "\n".join(row.texts[0] for row in rows) for path, rows in captions.items()}
    unseen_texts = [captioners[str(run)](s.image).texts[0] for s in unseen]
    right = sum(is_true(text, s.shapes) for text, s in zip(unseen_texts, unseen, strict=True))
    plot(unseen[0].image, captions[str(run)][0], out / "scene.png")
    return [
        f"scenes: {right / len(unseen):.1%} of captions of pictures it has not seen are true",
        *common_text(texts),
        f"where it looked: {out / 'scene.png'}",
    ]
