"""A run's model exported, whatever its task, and an export held against its run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from kerasrnn import runs
from kerasrnn.errors import InputError
from kerasrnn.export import FORMATS, export, verify_export
from kerasrnn.tasks.search import search_of


def export_run(
    run: str | Path,
    out: str | Path,
    formats: Sequence[str],
    license: str | None = None,
    onnxruntime_web: str | None = None,
    **search,
) -> list[Path]:
    """Export the best model of a run; the paths written.

    Args:
        run: the run folder.
        out, formats, onnxruntime_web: as in `export`.
        license: of the model, in a word or a line; the artifacts say it.
        search: `beam`, `n_best` and `max_length` of what searches, None for the run's own.

    Raises:
        InputError: when the run or an argument cannot be used.
    """
    from kerasrnn.tasks import captioning_settings, translation_settings

    searching = {
        "captioner": captioning_settings.Settings,
        "translator": translation_settings.Settings,
    }
    config, model = runs.read_config(run), runs.load_model(run)
    said = {"config_sha256": hashlib.sha256(json.dumps(config).encode()).hexdigest()}
    said |= {"license": license} if license else {}
    task = config.get("task")
    if task in searching:
        search = search_of(run, model, searching[task], **search)
        return export(model, out, formats, said, onnxruntime_web, **search)
    asked = [name for name, value in search.items() if value is not None]
    if asked:
        name = asked[0].replace("_", "-")
        expected = "a translator's or captioner's run beside it"
        raise InputError(f"--{name}", expected, run, "leave it out")
    return export(model, out, formats, said, onnxruntime_web)


def formats_of(format: str, streaming: bool) -> tuple[str, ...]:
    """What `export` is to write: "all" is ONNX and SavedModel, `streaming` adds to ONNX.

    Raises:
        InputError: when streaming is asked for without ONNX.

    >>> formats_of("onnx", True)
    ('onnx', 'streaming')
    """
    formats = FORMATS if format == "all" else (format,)
    if streaming and "onnx" not in formats:
        step = "a page has these files anyway" if format == "web" else "use --format onnx"
        raise InputError("--streaming", "--format onnx or all beside it", format, step)
    return (*formats, "streaming") if streaming else formats


def verify_run(run: str | Path, exported: str | Path) -> list[Path]:
    """Hold what was exported against the best model of its run; the artifacts that are the same.

    Args:
        run: the run folder.
        exported: an ONNX file, a SavedModel, or the folder that `export_run` wrote.

    Raises:
        InputError: when there is no such thing, or it is of another task.
        VerificationError: when an artifact does not do what the model does.
    """
    exported = Path(exported)
    inside = [exported / name for name in ("model.onnx", "encode.onnx", "saved_model")]
    artifacts = [path for path in inside if path.exists()] or [exported]
    if not artifacts[0].exists():
        raise InputError("EXPORT", "an export", f"{exported}, which is not there", "check the path")
    model = runs.load_model(run)
    for artifact in artifacts:
        verify_export(model, artifact)
    return artifacts
