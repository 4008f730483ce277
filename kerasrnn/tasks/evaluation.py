"""A run's model measured, whatever its task."""

from __future__ import annotations

from pathlib import Path

from kerasrnn import runs
from kerasrnn.errors import InputError


def evaluate(
    run: str | Path, *, text: list[str] | None, source: str | None, target: str | None
) -> dict:
    """The figures of a run's best model, on the files given or on what it was validated on.

    Args:
        run: the run folder.
        text: files, for a language model.
        source, target: aligned files, for a translator; `source` alone is a TSV file.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    from kerasrnn.tasks import language_model, translation

    task = runs.read_config(run).get("task")
    if task == "lm":
        if source or target:
            raise InputError("--source", "--text for a language model", source, "give --text")
        return language_model.evaluate(run, text)
    if text:
        raise InputError("--text", "--source and --target for a translator", text[0], "give them")
    return translation.evaluate(run, source, target)
