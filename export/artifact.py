"""Writes the artifacts of a model, and checks each in a fresh process before they appear."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import staging
from kerasrnn.export import web
from kerasrnn.export.forms import Onnx, SavedModel, Score
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.metadata import metadata_of, read_metadata, search_in
from kerasrnn.export.quantization import KINDS, quantize
from kerasrnn.export.runner import STREAMING
from kerasrnn.export.streaming import Streaming
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.export.verify import Agreement, count_agreeing, verify
from kerasrnn.models.serving import Served

FORMS: dict[str, Callable[[Served], Onnx]] = {
    "onnx": Onnx,
    "saved_model": SavedModel,
    "score": Score,
    "streaming": Streaming,
    "web": web.form_of_page,
}
FORMATS = ("onnx", "saved_model")


def _has_extensions() -> bool:
    # It is not imported here: in one process with TensorFlow Text it crashes.
    return importlib.util.find_spec("onnxruntime_extensions") is not None


def _served(model, options: dict) -> Served:
    """What a model says of how it is served, checked (InputError)."""
    if not hasattr(model, "served"):
        expected = "a model with a method `served`, as those of kerasrnn.models have"
        step = "give it one (kerasrnn.models.serving.Served), or use kerasrnn.export.onnx"
        raise InputError("model", expected, type(model).__name__, step)
    served = model.served(**options)
    served.check()
    return served


def export(
    model,
    out: str | Path,
    formats: Sequence[str] = FORMATS,
    metadata: dict[str, str] | None = None,
    *,
    onnxruntime_web: str | Path | None = None,
    quantized: Sequence[str] = (),
    measure: Callable[[Path], dict] | None = None,
    **options,
) -> list[Path]:
    """Write `model` to the new folder `out`, by default as `model.onnx` and `saved_model/`.

    Every artifact runs in a fresh process on the model's examples and on awkward inputs before
    `out` appears. When an answer differs, nothing is left behind.

    Args:
        model: a trained model of `kerasrnn.models`, or any other whose `served(**options)` returns
            a `kerasrnn.models.serving.Served`.
        out: a folder that does not exist yet.
        formats: any of "onnx"; "saved_model"; "streaming", which writes `encode.onnx` and
            `step.onnx` for use token by token (see `kerasrnn.export.streaming`); "score", which
            writes `score.onnx`, what a truth costs in nats; and "web", which
            adds a page that runs these two, for any static server.
        metadata: entries to store in the artifacts beside task, tokenizer, search and versions.
        onnxruntime_web: the runtime of the page: the folder of its npm package, which is copied,
            or the address of its `dist`. By default a fixed version on a public server.
        quantized: kinds of smaller ONNX files to write too: "int8" gives `model.int8.onnx`, "fp16"
            gives `model.fp16.onnx`. Their answers may differ from the model's. They are run on
            the same inputs, and their metadata has `quantized` and, as `measured`, the figures.
        measure: a function from an ONNX file, full or quantized, to figures.
        options: of `model.served`: `rules` and `max_length` of what searches.

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, when the model or a format is unknown, or when there is no
            runtime at `onnxruntime_web`.
        VerificationError: when the answers of an artifact differ from the model's.
    """
    out = Path(out)
    check_formats(formats, quantized)
    check_new(out)
    _check_runtime(onnxruntime_web, formats)
    served = _served(model, options)
    _check_subwords(served, formats)
    forms = {name: FORMS[name](served) for name in formats}
    with staging(out) as partial:
        for form in forms.values():
            form.write(partial / form.file, metadata_of(form.served, metadata or {}))
        for form in forms.values():
            verify(partial / form.file, *_expected(form))
        single = [forms[name] for name in ("onnx", "score") if name in forms]
        small = _quantize(single, partial, quantized, measure)
        if "web" in formats:
            web.write(partial, forms["web"], onnxruntime_web)
        # One rename: the folder appears complete or not at all.
        os.rename(partial, out)
    files = [file for form in forms.values() for file in form.files]
    files += small
    files += [web.INDEX] if "web" in formats else []
    return [out / name for name in dict.fromkeys(files)]


def _check_runtime(runtime: str | Path | None, formats: Sequence[str]) -> None:
    """Refuse an unusable runtime, or one without the format "web" (InputError)."""
    if runtime is not None and "web" not in formats:
        received = ", ".join(formats)
        raise InputError("--onnxruntime-web", "--format web beside it", received, "leave it out")
    web.check_runtime(runtime)


def _check_subwords(served, formats: Sequence[str]) -> None:
    """Refuse a subword model in ONNX when onnxruntime-extensions is missing (InputError)."""
    if not any(tokenizer.level == "subword" for tokenizer in served.tokenizers):
        return
    if set(formats) - {"saved_model"} and not _has_extensions():
        raise InputError(
            "format",
            "onnxruntime-extensions, which ONNX subwords need",
            "none installed",
            "pip install 'kerasrnn[sentencepiece-onnx]', or --format saved_model",
        )


def check_formats(formats: Sequence[str], quantized: Sequence[str] = ()) -> None:
    """Refuse unknown formats, and quantized files without "onnx" (InputError)."""
    for name in formats:
        if name not in FORMS:
            raise InputError("format", f"one of {', '.join(FORMS)}", name, "choose one of them")
    for name in quantized:
        if name not in KINDS:
            raise InputError("quantize", f"one of {', '.join(KINDS)}", name, "choose one of them")
    if quantized and "onnx" not in formats:
        received = f"--format {', '.join(formats)}"
        raise InputError("--quantize", "--format onnx or all", received, "change --format")


def check_new(out: str | Path) -> None:
    """Refuse an output folder that exists already (InputError)."""
    if Path(out).exists():
        raise InputError("--out", "a folder that does not exist yet", out, "give another name")


def _quantize(forms: Sequence[Onnx], folder: Path, quantized: Sequence[str], measure) -> list[str]:
    """Write, run and measure the quantized files beside the full ones, and return their names.

    Args:
        forms: those that are one ONNX file; what answers is the first.
        measure: as in `export`.
    """
    if not quantized:
        return []
    full, written = folder / forms[0].file, []
    figures = measure(full) if measure else None
    for kind in quantized:
        names = [small_name(form.file, kind) for form in forms]
        for form, name in zip(forms, names, strict=True):
            quantize(folder / form.file, folder / name, kind, _expected(form)[0])
        if measure:
            small = folder / names[0]
            measured = {"full": figures, kind: measure(small)}
            onnx_file.add_metadata(small, {"measured": json.dumps(measured)})
        written += names
    return written


def small_name(file: str, kind: str) -> str:
    """The name of the quantized file beside a full one.

    >>> small_name("model.onnx", "int8")
    'model.int8.onnx'
    """
    return file.replace(".onnx", f".{kind}.onnx")


def _expected(form: Onnx) -> tuple[list, list]:
    """The cases that an artifact can take, and the model's answers to them."""
    usable = [pair for pair in form.answered() if form.takes >= pair[0].keys()]
    cases, answers = zip(*usable, strict=True)
    return list(cases), list(answers)


def verify_export(model, artifact: str | Path) -> Agreement | None:
    """Check that an artifact answers as the model does, with the search that was exported.

    Args:
        model: the trained model that was exported.
        artifact: an ONNX file or a SavedModel that `export` wrote. Of the files for use token by
            token, any one stands for all.

    Returns:
        None. For a quantized file, whose answers may differ: in how many cases they agree.

    Raises:
        InputError: when `artifact` is not such a file, or belongs to another task.
        VerificationError: about the first case that differs.
    """
    artifact = Path(artifact)
    metadata = read_metadata(artifact)
    check_artifact(artifact, "EXPORT")
    task = _served(model, {}).task
    if metadata["task"] != task:
        expected, received = f"an export of {task}", f"{artifact}, one of {metadata['task']}"
        raise InputError("EXPORT", expected, received, "give the run that it came from")
    served = _served(model, search_in(metadata))
    name = "streaming" if STREAMING in metadata else metadata.get("form", "onnx")
    cases, answers = _expected(FORMS["saved_model" if artifact.is_dir() else name](served))
    if "quantized" not in metadata:
        return verify(artifact, cases, answers)
    return count_agreeing(artifact, cases, answers, metadata["quantized"])
