"""A run's model exported, whatever its task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasrnn import runs
from kerasrnn.errors import InputError
from kerasrnn.export import export
from kerasrnn.tasks.search import search_of


def export_run(run: str | Path, out: str | Path, formats: Sequence[str], **search) -> list[Path]:
    """Export the best model of a run; the paths written.

    Args:
        run: the run folder.
        out, formats: as in `export`.
        search: `beam`, `n_best` and `max_length` of what searches, None for the run's own.

    Raises:
        InputError: when the run or an argument cannot be used.
    """
    from kerasrnn.tasks import captioning_settings, translation_settings

    searching = {
        "captioner": captioning_settings.Settings,
        "translator": translation_settings.Settings,
    }
    task, model = runs.read_config(run).get("task"), runs.load_model(run)
    if task in searching:
        return export(model, out, formats, **search_of(run, model, searching[task], **search))
    asked = [name for name, value in search.items() if value is not None]
    if asked:
        name = asked[0].replace("_", "-")
        expected = "a translator's or captioner's run beside it"
        raise InputError(f"--{name}", expected, run, "leave it out")
    return export(model, out, formats)
