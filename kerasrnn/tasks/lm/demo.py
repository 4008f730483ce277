"""The demo of language models: Python's help topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.export import export
from kerasrnn.pipelines.builtin import write_topics
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.demo import common_text
from kerasrnn.tasks.lm.task import TASK
from kerasrnn.tasks.lm.use import generate
from kerasrnn.tasks.training import train

PROMPT = "The import statement "


def demo(out: Path, say: Callable[[str], None]) -> list[str]:
    """Train a language model on Python's help topics, character by character."""
    text = write_topics(out / "topics.txt")
    run, exported = out / "lm", out / "lm-export"
    options = {"text": [str(text)], "settings": TASK.presets["tiny"], "seed": 0}
    job = TASK.job(**options, out=str(run))
    best = train(job, say, verbose=2)
    written = export(run_folder.load_model(run), exported)
    drawing = {"length": 200, "temperature": 0.6, "top_k": 0, "top_p": 1.0, "seed": 1}
    texts = {str(path): generate(str(path), [PROMPT], **drawing)[0] for path in (run, *written)}
    return [
        f"language model: {best['val_nats']:.3f} nats per character on text it has not seen",
        *common_text(texts),
    ]
