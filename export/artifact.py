"""Writes the artifacts of a model, and checks each in a fresh process before they appear."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import staging
from kerasrnn.export import (
    captioner,
    language_model,
    saved_model,
    streaming,
    translator,
    web,
)
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.metadata import FILE, metadata_of, read_metadata, search_in
from kerasrnn.export.quantization import KINDS, quantize
from kerasrnn.export.runner import STREAMING
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.export.verify import Agreement, Case, count_agreeing, verify

TASKS = {
    "Captioner": captioner.Served,
    "Ensemble": translator.Served,
    "LanguageModel": language_model.Served,
    "Translator": translator.Served,
}
FORMATS = ("onnx", "saved_model")
SMALL = "model.{}.onnx"


def _write_onnx(served, path: Path, metadata: dict[str, str]) -> None:
    """Write a served model as one ONNX file."""
    core = onnx_file.convert(served.core, served.core_signature, served.core_outputs)
    onnx_file.write(served.with_text(core), path, metadata)


def _write_saved_model(served, path: Path, metadata: dict[str, str]) -> None:
    """Write a served model as a SavedModel, with its metadata in a JSON file."""
    captured = [served.model.variables, *served.tokenizers]
    saved_model.write(served.signatures, served.outputs, captured, path)
    (path / FILE).parent.mkdir(exist_ok=True)
    (path / FILE).write_text(json.dumps(metadata, indent=2), encoding="utf-8")


class Format(NamedTuple):
    """How to write and check an artifact of one format.

    Attributes:
        file: name of its file, or of the first of its files.
        write: a function (served, path, metadata) -> None.
        takes: a function from a served model to the names of its inputs.
        form: a function from a served model to the form that this format writes.
    """

    file: str
    write: Callable
    takes: Callable
    form: Callable = lambda served: served


def _input_names(served) -> set[str]:
    """The inputs of the default signature."""
    return {spec.name for spec in served.signature}


def _all_input_names(served) -> set[str]:
    """The inputs of all signatures."""
    return {spec.name for _, signature in served.signatures.values() for spec in signature}


WRITERS = {
    "onnx": Format("model.onnx", _write_onnx, _input_names),
    "saved_model": Format("saved_model", _write_saved_model, _all_input_names),
    "streaming": Format(streaming.ENCODE, streaming.write, _input_names, streaming.stream_of),
    "web": Format(streaming.ENCODE, streaming.write, _input_names, web.form),
}


def _has_extensions() -> bool:
    # It is not imported here: in one process with TensorFlow Text it crashes.
    return importlib.util.find_spec("onnxruntime_extensions") is not None


def _served_class(model) -> type:
    """The class that serves this kind of model (InputError when there is none)."""
    served_class = TASKS.get(type(model).__name__)
    if served_class is None:
        raise InputError(
            "model", f"one of {', '.join(TASKS)}", type(model).__name__, "give one of them"
        )
    return served_class


def export(
    model,
    out: str | Path,
    formats: Sequence[str] = FORMATS,
    metadata: dict[str, str] | None = None,
    *,
    onnxruntime_web: str | Path | None = None,
    quantized: Sequence[str] = (),
    measure: Callable[[Path, str | None], dict] | None = None,
    **options,
) -> list[Path]:
    """Write `model` to the new folder `out`, by default as `model.onnx` and `saved_model/`.

    Every artifact runs in a fresh process on the model's examples and on awkward inputs before
    `out` appears. When an answer differs, nothing is left behind.

    Args:
        model: a trained `LanguageModel`, `Translator`, `Ensemble` or `Captioner`.
        out: a folder that does not exist yet.
        formats: any of "onnx"; "saved_model"; "streaming", which writes `encode.onnx` and
            `step.onnx` for use token by token (see `kerasrnn.export.streaming`); and "web", which
            adds a page that runs these two, for any static server.
        metadata: entries to store in the artifacts beside task, tokenizer, search and versions.
        onnxruntime_web: the runtime of the page: the folder of its npm package, which is copied,
            or the address of its `dist`. By default a fixed version on a public server.
        quantized: kinds of smaller ONNX files to write too: "int8" gives `model.int8.onnx`, "fp16"
            gives `model.fp16.onnx`. Their answers may differ from the model's. They are run on
            the same inputs, and their metadata has `quantized` and, as `measured`, the figures.
        measure: a function from an ONNX file and its kind (None for the full file) to figures.
        options: options of the task: `rules` and `max_length` of a translator's or captioner's
            search.

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, when the model or a format is unknown, or when there is no
            runtime at `onnxruntime_web`.
        VerificationError: when the answers of an artifact differ from the model's.
    """
    out, served_class = Path(out), _served_class(model)
    check_formats(formats, quantized)
    check_new(out)
    _check_runtime(onnxruntime_web, formats)
    served = served_class(model, **options)
    _check_subwords(served, formats)
    forms = {name: WRITERS[name].form(served) for name in formats}
    with staging(out) as partial:
        for name, form in forms.items():
            entries = metadata_of(form, metadata or {})
            WRITERS[name].write(form, partial / WRITERS[name].file, entries)
        _verify(forms, {name: partial / WRITERS[name].file for name in formats})
        _quantize(served, partial, quantized, measure)
        if "web" in formats:
            web.write(partial, onnxruntime_web)
        # One rename: the folder appears complete or not at all.
        os.rename(partial, out)
    files = [file for name in formats for file in _files(name, forms[name])]
    files += map(SMALL.format, quantized)
    files += [web.INDEX] if "web" in formats else []
    return [out / name for name in dict.fromkeys(files)]


def _files(name: str, form) -> tuple[str, ...]:
    """The files of a format: one, or several for use token by token."""
    return getattr(form, "files", (WRITERS[name].file,))


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
        if name not in WRITERS:
            raise InputError("format", f"one of {', '.join(WRITERS)}", name, "choose one of them")
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


def _quantize(served, folder: Path, quantized: Sequence[str], measure) -> None:
    """Write, run and measure the quantized files beside the full one."""
    full = folder / WRITERS["onnx"].file
    cases = [case for case in served.cases() if _input_names(served) >= case.keys()]
    figures = measure(full, None) if measure and quantized else None
    for kind in quantized:
        small = quantize(full, folder / SMALL.format(kind), kind, cases)
        if measure:
            measured = {"full": figures, kind: measure(small, kind)}
            onnx_file.add_metadata(small, {"measured": json.dumps(measured)})


def _expected_answers(
    forms: dict[str, object], artifacts: dict[str, Path]
) -> Iterator[tuple[Path, list[Case], list[Case]]]:
    """Each artifact, the cases that its format can take, and the model's answers to them."""

    # Formats of one form share the model's answers, which are slow to compute.
    @functools.cache
    def answered_cases(form) -> list[tuple[Case, Case]]:
        return [(case, form.answer(case)) for case in form.cases()]

    for name, path in artifacts.items():
        takes = WRITERS[name].takes(forms[name])
        usable = [pair for pair in answered_cases(forms[name]) if takes >= pair[0].keys()]
        yield path, *map(list, zip(*usable, strict=True))


def _verify(forms: dict[str, object], artifacts: dict[str, Path]) -> None:
    """Compare every artifact with the model on all cases."""
    for answers in _expected_answers(forms, artifacts):
        verify(*answers)


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
    artifact, served_class = Path(artifact), _served_class(model)
    metadata = read_metadata(artifact)
    check_artifact(artifact, "EXPORT")
    if metadata["task"] != served_class.task:
        received = f"{artifact}, a {metadata['task']}"
        raise InputError(
            "EXPORT", f"a {served_class.task}", received, "give the run that it came from"
        )
    name = "streaming" if STREAMING in metadata else "onnx"
    name = "saved_model" if artifact.is_dir() else name
    forms = {name: WRITERS[name].form(served_class(model, **search_in(metadata)))}
    if "quantized" not in metadata:
        _verify(forms, {name: artifact})
        return None
    [(path, cases, expected)] = _expected_answers(forms, {name: artifact})
    return count_agreeing(path, cases, expected, metadata["quantized"])
