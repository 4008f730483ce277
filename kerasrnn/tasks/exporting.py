"""A run's model exported, whatever its task, and an export held against its run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.export import FORMATS, export, read_metadata, verify_export
from kerasrnn.export.artifact import check_formats, check_new
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.needs import EVALUATED, check_needs
from kerasrnn.tasks.quantizing import measure_of
from kerasrnn.tasks.search import search_of


def export_run(
    run: str | Path,
    out: str | Path,
    formats: Sequence[str],
    license: str | None = None,
    *,
    checkpoint: str = run_folder.BEST,
    onnxruntime_web: str | None = None,
    quantized: Sequence[str] = (),
    files: dict | None = None,
    say: Callable[[str], None] = lambda text: None,
    **search,
) -> list[Path]:
    """Export a model of a run; the paths written.

    Args:
        run: the run folder.
        out, formats, onnxruntime_web: as in `export`.
        license: of the model, in a word or a line; the artifacts say it.
        checkpoint: which model, "best" or "last", where training stands.
        quantized: kinds of smaller ONNX files to write too, and to measure.
        files: what they are measured on, as for `evaluate`.
        say: told what was left out.
        search: `beam`, `n_best` and `max_length` of what searches, None for the run's own.

    Raises:
        InputError: when the run or an argument cannot be used.
    """
    from kerasrnn.tasks import captioning_settings, translation_settings

    check_formats(formats, quantized)
    check_new(out)
    config, model = run_folder.read_config(run), run_folder.load_chosen(run, checkpoint)
    said = _metadata(config, license, checkpoint)
    small = {"quantized": quantized, "measure": _measure(run, model, quantized, files, say)}
    small["onnxruntime_web"] = onnxruntime_web
    task = config.get("task")
    searching = {
        "captioner": captioning_settings.Settings,
        "translator": translation_settings.Settings,
    }
    if task in searching:
        search = search_of(run, model, searching[task], **search)
        return export(model, out, formats, said, **small, **search)
    asked = [name for name, value in search.items() if value is not None]
    if asked:
        name = asked[0].replace("_", "-")
        expected = "a translator's or captioner's run beside it"
        raise InputError(f"--{name}", expected, run, "leave it out")
    return export(model, out, formats, said, **small)


def _metadata(config: dict, license: str | None, checkpoint: str) -> dict[str, str]:
    """What the artifacts say of the run."""
    said = {"config_sha256": hashlib.sha256(json.dumps(config).encode()).hexdigest()}
    said |= {"checkpoint": checkpoint} if checkpoint != run_folder.BEST else {}
    return said | ({"license": license} if license else {})


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


def _measure(run, model, quantized, files: dict | None, say):
    files = files or {}
    values = dict.fromkeys(EVALUATED) | files | {"quantize": quantized}
    check_needs("export", values, [name for name, value in files.items() if value])
    return measure_of(run, model, say, **files) if quantized else None


def measured(written: Sequence[Path]) -> dict[str, dict]:
    """By path, what the quantized ones among the files say: their bytes and the full file's, and
    the figures of both."""
    found = {}
    for path in written:
        said = read_metadata(path) if path.suffix == ".onnx" else {}
        if "measured" in said:
            sizes = {"bytes": path.stat().st_size}
            sizes["full_bytes"] = path.with_name("model.onnx").stat().st_size
            found[str(path)] = {**sizes, **json.loads(said["measured"])}
    return found


def in_words(figures: dict) -> str:
    """One line of what `measured` has on a file."""
    full, small = (value for value in figures.values() if isinstance(value, dict))
    share = figures["bytes"] / figures["full_bytes"]
    changes = [f"{n} {full[n]:.6g} -> {v:.6g}" for n, v in small.items() if isinstance(v, float)]
    counts = [f"on {v} {n}" for n, v in small.items() if isinstance(v, int)]
    named = [f"{n} {v}" for n, v in small.items() if isinstance(v, str)]
    said = ", ".join([*changes, *counts, *named])
    return f"{figures['bytes']:,} bytes, {share:.1%} of the full file; {said}"


def verify_run(
    run: str | Path, exported: str | Path, checkpoint: str = run_folder.BEST
) -> dict[Path, tuple[int, int] | None]:
    """Hold what was exported against the model of its run.

    Args:
        run: the run folder.
        exported: an ONNX file, a SavedModel, or the folder that `export_run` wrote.
        checkpoint: as in `export_run`.

    Returns:
        By artifact, None: it does what the model does; of a quantized one, in how many cases it
        writes the same, and of how many.

    Raises:
        InputError: when there is no such thing, or it is of another task.
        VerificationError: when another artifact does not do what the model does.
    """
    exported = Path(exported)
    inside = [exported / name for name in ("model.onnx", "encode.onnx", "saved_model")]
    inside += sorted(exported.glob("model.*.onnx"))
    artifacts = [path for path in inside if path.exists()] or [exported]
    if not artifacts[0].exists():
        raise InputError("EXPORT", "an export", f"{exported}, which is not there", "check the path")
    model = run_folder.load_chosen(run, checkpoint)
    return {artifact: verify_export(model, artifact) for artifact in artifacts}
