"""Run the demo of a task, or of all: train, export and run a small model on built-in data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.task import Task

MARK = "kerasrnn-demo"  # a file that marks a folder as a demo, which may be overwritten


def demo(
    tasks: Sequence[Task], out: Path, overwrite: bool, say: Callable[[str], None]
) -> list[str]:
    """Train a tiny model of each task, export it to ONNX and SavedModel, and run all three.

    Args:
        tasks: those that have a demo: a function `demo(out, say)` in their module `demo`.
        out: the folder to write.
        overwrite: first remove the folder of an earlier demo.
        say: called with the messages of the training.

    Returns:
        Lines to print: scores on data that the models have not seen, and what the trained model
        and both exports wrote.

    Raises:
        InputError: when a task has no demo; when `out` exists without `overwrite`, or is not the
            folder of a demo.
        RuntimeError: when an export writes another text than the trained model.
    """
    for task in tasks:
        if task.demo is None:
            raise InputError("TASK", "one with a demo", task.name, "train it on data of your own")
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
    lines = [line for task in tasks for line in ["", *task.demo(out, say)]]
    return lines[1:]


def common_text(texts: dict[str, str]) -> list[str]:
    """Return the text that all runtimes wrote; RuntimeError when they differ."""
    if len(set(texts.values())) != 1:
        raise RuntimeError(f"the runtimes disagree: {texts}")
    return [f"the same text from {', '.join(texts)}:", "", next(iter(texts.values()))]
