"""Export the model of a run, for any task, and verify an export against its run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasrnn.base.choices import BEST
from kerasrnn.base.errors import InputError
from kerasrnn.export import FORMATS, export, read_metadata, verify_export
from kerasrnn.export.artifact import check_formats, check_new
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.catalog import TASKS, check_needs, options_of
from kerasrnn.tasks.evaluation import measure_of
from kerasrnn.tasks.opening import load_run
from kerasrnn.tasks.search import search_of
from kerasrnn.tasks.settings import Need, check_need

QUANTIZE = Need("--quantize", lambda v: v["quantize"])


def export_run(
    run: str | Path,
    out: str | Path,
    formats: Sequence[str],
    license: str | None = None,
    *,
    checkpoint: str = BEST,
    onnxruntime_web: str | None = None,
    quantized: Sequence[str] = (),
    files: dict | None = None,
    say: Callable[[str], None] = lambda text: None,
    **search,
) -> list[Path]:
    """Export the model of a run, and return the paths of the files and folders written.

    Args:
        run: the run folder.
        out, formats, onnxruntime_web: as in `export`; beside "onnx" also "score", where the model
            says what a truth costs.
        license: of the model, in a word or a line; it is written into the artifacts.
        checkpoint: "best" for the best model, "last" for the model of the last checkpoint.
        quantized: kinds of smaller ONNX files to write and measure too.
        files: the data to measure them on, as for `evaluate`.
        say: called with a message, for example about data that was left out.
        search: `beam`, `n_best` and `max_length` of a model that searches; None for the settings of
            the run.

    Raises:
        InputError: when the run or an argument cannot be used.
    """
    # Faulty arguments are refused before the model is loaded.
    check_formats(formats, quantized)
    check_new(out)
    config, (task, model) = run_folder.read_config(run), load_run(run, checkpoint)
    if "onnx" in formats and "score" not in formats and model.served().scoring is not None:
        at = list(formats).index("onnx") + 1
        formats = (*formats[:at], "score", *formats[at:])
    metadata = _metadata(config, license, checkpoint)
    options = {"quantized": quantized, "measure": _measure(run, model, quantized, files, say)}
    options["onnxruntime_web"] = onnxruntime_web
    if task.searches:
        search = search_of(run, model, task.settings, **search)
        return export(model, out, formats, metadata, **options, **search)
    search_options = [name for name, value in search.items() if value is not None]
    if search_options:
        name = search_options[0].replace("_", "-")
        nouns = " or ".join(f"{task.noun}'s" for task in TASKS.values() if task.searches)
        expected = f"{nouns} run beside it"
        raise InputError(f"--{name}", expected, run, "leave it out")
    return export(model, out, formats, metadata, **options)


def _metadata(config: dict, license: str | None, checkpoint: str) -> dict[str, str]:
    """Return what the artifacts record about the run."""
    metadata = {"config_sha256": hashlib.sha256(json.dumps(config).encode()).hexdigest()}
    metadata["settings"] = json.dumps(config["settings"])
    metadata |= {"checkpoint": checkpoint} if checkpoint != BEST else {}
    return metadata | ({"license": license} if license else {})


def formats_of(format: str, streaming: bool) -> tuple[str, ...]:
    """Return the formats for `export` to write.

    Args:
        format: "all" for ONNX and SavedModel, or the name of one format.
        streaming: also write the ONNX files for use token by token.

    Raises:
        InputError: when `streaming` is True without ONNX.

    >>> formats_of("onnx", True)
    ('onnx', 'streaming')
    """
    formats = FORMATS if format == "all" else (format,)
    if streaming and "onnx" not in formats:
        step = "a page has these files anyway" if format == "web" else "use --format onnx"
        raise InputError("--streaming", "--format onnx or all beside it", format, step)
    return (*formats, "streaming") if streaming else formats


def _measure(run, model, quantized, files: dict | None, say):
    """Return the function that measures an ONNX file, or None when nothing is quantized."""
    files = files or {}
    values = dict.fromkeys(options_of("export")) | files | {"quantize": quantized}
    given = [name for name, value in files.items() if value]
    for name in given:
        check_need(name, QUANTIZE, values)
    check_needs("export", values, given)
    return measure_of(run, model, say, **files) if quantized else None


def measured(written: Sequence[Path]) -> dict[str, dict]:
    """Return sizes and scores of the quantized files, by path.

    Args:
        written: the paths that `export_run` wrote.

    Returns:
        For each quantized ONNX file its `bytes`, the `full_bytes` of model.onnx, and the scores
        of both files.
    """
    measurements = {}
    for path in written:
        metadata = read_metadata(path) if path.suffix == ".onnx" else {}
        if "measured" in metadata:
            sizes = {"bytes": path.stat().st_size}
            sizes["full_bytes"] = path.with_name("model.onnx").stat().st_size
            measurements[str(path)] = {**sizes, **json.loads(metadata["measured"])}
    return measurements


def in_words(figures: dict) -> str:
    """Return one line about a quantized file, from what `measured` returned for it."""
    full, quantized = (value for value in figures.values() if isinstance(value, dict))
    share = figures["bytes"] / figures["full_bytes"]
    scores = {n: v for n, v in quantized.items() if isinstance(v, float)}
    changes = [f"{name} {full[name]:.6g} -> {score:.6g}" for name, score in scores.items()]
    counts = [f"on {v} {n}" for n, v in quantized.items() if isinstance(v, int)]
    words = {n: v for n, v in quantized.items() if not n.endswith("_signature")}
    texts = [f"{n} {v}" for n, v in words.items() if isinstance(v, str)]
    comparison = ", ".join([*changes, *counts, *texts])
    return f"{figures['bytes']:,} bytes, {share:.1%} of the full file; {comparison}"


def verify_run(
    run: str | Path, exported: str | Path, checkpoint: str = BEST
) -> dict[Path, tuple[int, int] | None]:
    """Compare exported artifacts with the model of their run.

    Args:
        run: the run folder.
        exported: an ONNX file, a SavedModel, or the folder that `export_run` wrote.
        checkpoint: as in `export_run`.

    Returns:
        For each artifact None, which means that it gives the same results as the model. For a
        quantized artifact, whose results may differ: (cases with the same text, all cases).

    Raises:
        InputError: when there is no such export, or it is of another task.
        VerificationError: when an artifact that is not quantized gives other results.
    """
    exported = Path(exported)
    names = ("model.onnx", "score.onnx", "encode.onnx", "saved_model")
    candidates = [exported / name for name in names]
    candidates += sorted(exported.glob("*.*.onnx"))
    artifacts = [path for path in candidates if path.exists()] or [exported]
    if not artifacts[0].exists():
        raise InputError("EXPORT", "an export", f"{exported}, which is not there", "check the path")
    _, model = load_run(run, checkpoint)
    return {artifact: verify_export(model, artifact) for artifact in artifacts}
