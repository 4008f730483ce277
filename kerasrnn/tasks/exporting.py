"""A run's model exported, whatever its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasrnn import runs
from kerasrnn.errors import InputError
from kerasrnn.export import export


def export_run(run: str | Path, out: str | Path, formats: Sequence[str], **search) -> list[Path]:
    """Export the best model of a run; the paths written.

    Args:
        run: the run folder.
        out, formats: as in `export`.
        search: `beam`, `n_best` and `max_length` of a translator, None for the run's own.

    Raises:
        InputError: when the run or an argument cannot be used.
    """
    from kerasrnn.tasks.translation import search_of

    task, model = runs.read_config(run).get("task"), runs.load_model(run)
    changed = {name: value for name, value in search.items() if value is not None}
    if task == "translator":
        return export(model, out, formats, **search_of(run, model, **changed))
    if changed:
        name = next(iter(changed)).replace("_", "-")
        raise InputError(f"--{name}", "a translator's run beside it", run, "leave it out")
    return export(model, out, formats)
