"""Export: write a model's artifacts, check each in a fresh process, then let them appear."""

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
from kerasrnn.export.verify import Agreement, Case, agreeing, verify

TASKS = {
    "Captioner": captioner.Served,
    "Ensemble": translator.Served,
    "LanguageModel": language_model.Served,
    "Translator": translator.Served,
}
FORMATS = ("onnx", "saved_model")
SMALL = "model.{}.onnx"


def _onnx(served, path: Path, metadata: dict[str, str]) -> None:
    core = onnx_file.convert(served.core, served.core_signature, served.core_outputs)
    onnx_file.write(served.with_text(core), path, metadata)


def _saved_model(served, path: Path, metadata: dict[str, str]) -> None:
    captured = [served.model.variables, *served.tokenizers]
    saved_model.write(served.signatures, served.outputs, captured, path)
    (path / FILE).parent.mkdir(exist_ok=True)
    (path / FILE).write_text(json.dumps(metadata, indent=2), encoding="utf-8")


class Format(NamedTuple):
    """How an artifact is written and checked.

    Attributes:
        file: its name; what stands for it, where it is several.
        write: (served, path, metadata) -> None.
        takes: served -> the names of its inputs.
        form: what is exported -> as this format serves it.
    """

    file: str
    write: Callable
    takes: Callable
    form: Callable = lambda served: served


def _names(served) -> set[str]:
    return {spec.name for spec in served.signature}


def _signature_names(served) -> set[str]:
    return {spec.name for _, signature in served.signatures.values() for spec in signature}


WRITERS = {
    "onnx": Format("model.onnx", _onnx, _names),
    "saved_model": Format("saved_model", _saved_model, _signature_names),
    "streaming": Format(streaming.ENCODE, streaming.write, _names, streaming.stream_of),
    "web": Format(streaming.ENCODE, streaming.write, _names, web.form),
}


def _has_extensions() -> bool:
    # Only looked for: in one process with TensorFlow Text it crashes.
    return importlib.util.find_spec("onnxruntime_extensions") is not None


def _kind(model) -> type:
    kind = TASKS.get(type(model).__name__)
    if kind is None:
        raise InputError(
            "model", f"one of {', '.join(TASKS)}", type(model).__name__, "give one of them"
        )
    return kind


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
    """Write `model` to the new folder `out` as `model.onnx` and `saved_model/`.

    Every artifact runs in a fresh process on the model's own examples and on awkward inputs
    before `out` appears; when anything differs nothing is left behind.

    Args:
        model: a trained model of ours.
        out: a folder that does not exist yet.
        formats: some of "onnx", "saved_model" and "streaming", which writes `encode.onnx` and
            `step.onnx` for use token by token (see `kerasrnn.export.streaming`), and "web", which
            writes these and a page that runs them, for any static server.
        metadata: what the artifacts say of themselves beside task, tokenizer, search and versions.
        onnxruntime_web: what the page runs on: the folder of the npm package, which is copied, or
            the address of its `dist`; by default that of a version on a public server.
        quantized: kinds of smaller ONNX files to write too, `model.int8.onnx`, `model.fp16.onnx`.
            They do not do exactly what the model does: they run on the same inputs, and their
            metadata says `quantized` and, as `measured`, the figures.
        measure: the figures of an ONNX file and its kind, None for the full one.
        options: of the task: `rules` and `max_length` of a translator's or captioner's search.

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, the model or a format is none of ours, or there is no
            runtime at `onnxruntime_web`.
        VerificationError: when an artifact does not do what the model does.
    """
    out, kind = Path(out), _kind(model)
    check_formats(formats, quantized)
    check_new(out)
    _check_runtime(onnxruntime_web, formats)
    served = kind(model, **options)
    _check_subwords(served, formats)
    forms = {name: WRITERS[name].form(served) for name in formats}
    with staging(out) as partial:
        for name, form in forms.items():
            said = metadata_of(form, metadata or {})
            WRITERS[name].write(form, partial / WRITERS[name].file, said)
        _verify(forms, {name: partial / WRITERS[name].file for name in formats})
        _quantize(served, partial, quantized, measure)
        if "web" in formats:
            web.write(partial, onnxruntime_web)
        os.rename(partial, out)
    names = [file for name in formats for file in _files(name, forms[name])]
    names += map(SMALL.format, quantized)
    names += [web.INDEX] if "web" in formats else []
    return [out / name for name in dict.fromkeys(names)]


def _files(name: str, form) -> tuple[str, ...]:
    """What a format writes; token by token that is several files."""
    return getattr(form, "files", (WRITERS[name].file,))


def _check_runtime(given: str | Path | None, formats: Sequence[str]) -> None:
    """Refuse a runtime that is none, or that no page asks for (InputError)."""
    if given is not None and "web" not in formats:
        received = ", ".join(formats)
        raise InputError("--onnxruntime-web", "--format web beside it", received, "leave it out")
    web.check_runtime(given)


def _check_subwords(served, formats: Sequence[str]) -> None:
    """Refuse subwords in ONNX where nothing can run them (InputError)."""
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
    """Refuse what cannot be written (InputError)."""
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
    """Refuse a folder to write that exists (InputError)."""
    if Path(out).exists():
        raise InputError("--out", "a folder that does not exist yet", out, "give another name")


def _quantize(served, folder: Path, quantized: Sequence[str], measure) -> None:
    """Write, run and measure the smaller files beside the full one."""
    full = folder / WRITERS["onnx"].file
    cases = [case for case in served.cases() if _names(served) >= case.keys()]
    figures = measure(full, None) if measure and quantized else None
    for kind in quantized:
        small = quantize(full, folder / SMALL.format(kind), kind, cases)
        if measure:
            found = {"full": figures, kind: measure(small, kind)}
            onnx_file.add_metadata(small, {"measured": json.dumps(found)})


def _answers(
    forms: dict[str, object], artifacts: dict[str, Path]
) -> Iterator[tuple[Path, list[Case], list[Case]]]:
    """Each artifact, the cases that its format takes, and what the model in its form says."""

    @functools.cache
    def asked(form) -> list[tuple[Case, Case]]:
        return [(case, form.answer(case)) for case in form.cases()]

    for name, path in artifacts.items():
        takes = WRITERS[name].takes(forms[name])
        fits = [pair for pair in asked(forms[name]) if takes >= pair[0].keys()]
        yield path, *map(list, zip(*fits, strict=True))


def _verify(forms: dict[str, object], artifacts: dict[str, Path]) -> None:
    """Every case against the model."""
    for answers in _answers(forms, artifacts):
        verify(*answers)


def verify_export(model, artifact: str | Path) -> Agreement | None:
    """Whether an artifact still does what the model does, its search as it was exported.

    Args:
        model: a trained model of ours.
        artifact: an ONNX file or a SavedModel that `export` wrote; of a model token by token any
            of its files stands for all.

    Returns:
        None when it does; of a quantized file, which need not, in how many cases it does.

    Raises:
        InputError: when it is neither, or of another task.
        VerificationError: naming the first case that differs.
    """
    artifact, kind = Path(artifact), _kind(model)
    said = read_metadata(artifact)
    check_artifact(artifact, "EXPORT")
    if said["task"] != kind.task:
        received = f"{artifact}, a {said['task']}"
        raise InputError("EXPORT", f"a {kind.task}", received, "give the run that it came from")
    name = "streaming" if STREAMING in said else "onnx"
    name = "saved_model" if artifact.is_dir() else name
    forms = {name: WRITERS[name].form(kind(model, **search_in(said)))}
    if "quantized" not in said:
        _verify(forms, {name: artifact})
        return None
    [(path, cases, expected)] = _answers(forms, {name: artifact})
    return agreeing(path, cases, expected, said["quantized"])
