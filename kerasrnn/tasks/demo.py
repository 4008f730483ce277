"""The demo: a model trained, exported and run on built-in data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kerasrnn import runs
from kerasrnn.errors import InputError
from kerasrnn.export import export
from kerasrnn.pipelines.builtin import write_topics
from kerasrnn.tasks import language_model as lm
from kerasrnn.tasks.generation import generate

PROMPT = "The import statement "
MARK = "kerasrnn-demo"


def demo(out: Path, overwrite: bool, say: Callable[[str], None]) -> list[str]:
    """Train a tiny language model on Python's help topics, export it both ways, run all three.

    Returns:
        Lines to print: the validation figures and one text that all three wrote.

    Raises:
        InputError: when `out` exists and is not to be overwritten, or is no earlier demo.
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
    text = write_topics(out / "topics.txt")
    run, exported = out / "lm", out / "lm-export"
    best = lm.train(lm.Job([str(text)], "char", lm.PRESETS["tiny"], 0, str(run)), say, verbose=2)
    written = export(runs.load_model(run), exported)
    options = {"length": 200, "temperature": 0.6, "top_k": 0, "top_p": 1.0, "seed": 1}
    texts = {str(p): generate(str(p), [PROMPT], **options)[0] for p in (run, *written)}
    if len(set(texts.values())) != 1:
        raise RuntimeError(f"the runtimes disagree: {texts}")
    return [
        f"language model: {best['val_nats']:.3f} nats per character on text it has not seen",
        f"the same text from {', '.join(texts)}:",
        "",
        texts[str(run)],
    ]
