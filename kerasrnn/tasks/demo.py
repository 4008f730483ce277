"""Run the demo: train, export and run small models on built-in data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.export import export
from kerasrnn.pipelines.builtin import write_topics
from kerasrnn.pipelines.dates import write_dates
from kerasrnn.pipelines.scenes import is_true, scene, write_scenes
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.captioner import task as captioner
from kerasrnn.tasks.captioner.use import open_captioner
from kerasrnn.tasks.captioner.use import plot as plot_caption
from kerasrnn.tasks.exporting import export_run
from kerasrnn.tasks.lm import task as lm
from kerasrnn.tasks.lm.use import generate
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator import task as translator
from kerasrnn.tasks.translator.use import open_translator, plot

PROMPT = "The import statement "
DATES = ["Samstag, 21. November 2026", "21/11/2026", "le 1 avril 1999"]
SCENES = 4000  # pictures to train on
MARK = "kerasrnn-demo"  # a file that marks a folder as a demo, which may be overwritten


def demo(out: Path, overwrite: bool, say: Callable[[str], None]) -> list[str]:
    """Train a tiny model of each family, export it to ONNX and SavedModel, and run all three.

    Args:
        out: the folder to write.
        overwrite: first remove the folder of an earlier demo.
        say: called with the messages of the training.

    Returns:
        Lines to print: scores on data that the models have not seen, and the text that the
        trained model and both exports wrote.

    Raises:
        InputError: when `out` exists without `overwrite`, or is not the folder of a demo.
        RuntimeError: when an export writes another text than the trained model.
    """
    if out.exists():
        if not overwrite:
            raise InputError("--out", "a folder that does not exist yet", out, "use --overwrite")
        if not (out / MARK).exists():
            raise InputError(
                "--overwrite", "the folder of an earlier demo", out, "remove it yourself"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARK).touch()
    parts = (_language_model, _translator, _captioner)
    lines = [line for part in parts for line in ["", *part(out, say)]]
    return lines[1:]


def _language_model(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a language model on Python's help topics, character by character."""
    text = write_topics(out / "topics.txt")
    run, exported = out / "lm", out / "lm-export"
    options = {"text": [str(text)], "settings": lm.PRESETS["tiny"], "seed": 0}
    job = lm.TASK.job(**options, out=str(run))
    best = train(job, say, verbose=2)
    written = export(run_folder.load_model(run), exported)
    drawing = {"length": 200, "temperature": 0.6, "top_k": 0, "top_p": 1.0, "seed": 1}
    texts = {str(path): generate(str(path), [PROMPT], **drawing)[0] for path in (run, *written)}
    return [
        f"language model: {best['val_nats']:.3f} nats per character on text it has not seen",
        *_common_text(texts),
    ]


def _translator(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a translator from dates as people write them to ISO 8601."""
    files = [str(path) for path in write_dates(out / "dates", train=6000, valid=500)]
    run, exported = out / "dates-run", out / "dates-export"
    job = translator.TASK.job(
        source=files[0],
        target=files[1],
        level="char",
        settings=translator.PRESETS["tiny"],
        seed=0,
        out=str(run),
        valid_source=files[2],
        valid_target=files[3],
    )
    best = train(job, say, verbose=2)
    written = export_run(run, exported, ("onnx", "saved_model"))
    paths = [str(path) for path in (run, *written)]
    translations = {path: open_translator(path, None, None, None)(DATES) for path in paths}
    plot(translations[str(run)][0], out / "attention.png")
    texts = {
        path: "\n".join(
            f"{source} -> {row.texts[0]}" for source, row in zip(DATES, rows, strict=True)
        )
        for path, rows in translations.items()
    }
    return [
        f"dates: {best['val_exact']:.1%} of dates it has not seen are right",
        *_common_text(texts),
        f"where it looked: {out / 'attention.png'}",
    ]


def _captioner(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a captioner that says which shapes a picture shows and where."""
    files = write_scenes(out / "scenes", train=SCENES, valid=200)
    run, exported = out / "scenes-run", out / "scenes-export"
    job = captioner.TASK.job(
        images=str(files.images),
        captions=str(files.train),
        settings=captioner.PRESETS["tiny"],
        seed=0,
        out=str(run),
        valid_captions=str(files.valid),
    )
    train(job, say, verbose=2)
    written = export_run(run, exported, ("onnx", "saved_model"))
    # The number of a scene fixes its content; the model was trained on the numbers below `SCENES`.
    unseen = [scene(0, number) for number in range(SCENES, SCENES + 200)]
    paths = [str(path) for path in (run, *written)]
    captioners = {path: open_captioner(path, None, None, None) for path in paths}
    captions = {path: [c(s.image) for s in unseen[:4]] for path, c in captioners.items()}
    texts = {path: "\n".join(row.texts[0] for row in rows) for path, rows in captions.items()}
    unseen_texts = [captioners[str(run)](s.image).texts[0] for s in unseen]
    right = sum(is_true(text, s.shapes) for text, s in zip(unseen_texts, unseen, strict=True))
    plot_caption(unseen[0].image, captions[str(run)][0], out / "scene.png")
    return [
        f"scenes: {right / len(unseen):.1%} of captions of pictures it has not seen are true",
        *_common_text(texts),
        f"where it looked: {out / 'scene.png'}",
    ]


def _common_text(texts: dict[str, str]) -> list[str]:
    """Return the text that all runtimes wrote; RuntimeError when they differ."""
    if len(set(texts.values())) != 1:
        raise RuntimeError(f"the runtimes disagree: {texts}")
    return [f"the same text from {', '.join(texts)}:", "", next(iter(texts.values()))]
