"""The demo of translators: dates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.pipelines.dates import write_dates
from kerasrnn.tasks.demo import common_text
from kerasrnn.tasks.exporting import export_run
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator.task import TASK
from kerasrnn.tasks.translator.use import open_translator, plot

DATES = ["Samstag, 21. November 2026", "21/11/2026", "le 1 avril 1999"]


def demo(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a translator from dates as people write them to ISO 8601."""
    files = [str(path) for path in write_dates(out / "dates", train=6000, valid=500)]
    run, exported = out / "dates-run", out / "dates-export"
    job = TASK.job(
        source=files[0],
        target=files[1],
        level="char",
        settings=TASK.presets["tiny"],
        seed=0,
        out=str(run),
        valid_source=files[2],
        valid_target=files[3],
    )
    best = train(job, say, verbose=2)
    export_run(run, exported, ("onnx", "saved_model"))
    written = [exported / name for name in ("model.onnx", "saved_model")]
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
        *common_text(texts),
        f"where it looked: {out / 'attention.png'}",
    ]
