"""Export: write a model's artifacts, check each in a fresh process, then let them appear."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kerasrnn.errors import InputError
from kerasrnn.export import captioner, language_model, onnx_file, saved_model, translator
from kerasrnn.export.metadata import FILE, metadata_of, read_metadata, search_in
from kerasrnn.export.quantization import KINDS, quantize
from kerasrnn.export.verify import Case, agreeing, verify
from kerasrnn.files import staging

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


def _names(signature) -> set[str]:
    return {spec.name for spec in signature}


# format -> its file, what writes it, and served -> the inputs that it takes
WRITERS = {
    "onnx": ("model.onnx", _onnx, lambda served: _names(served.signature)),
    "saved_model": (
        "saved_model",
        _saved_model,
        lambda served: set().union(*(_names(s) for _, s in served.signatures.values())),
    ),
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
        formats: some of "onnx" and "saved_model".
        metadata: what the artifacts say of themselves beside task, tokenizer, search and versions.
        quantized: kinds of smaller ONNX files to write too, `model.int8.onnx`, `model.fp16.onnx`.
            They do not do exactly what the model does: they run on the same inputs, and their
            metadata says `quantized` and, as `measured`, the figures.
        measure: the figures of an ONNX file and its kind, None for the full one.
        options: of the task: `rules` and `max_length` of a translator's or captioner's search.

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, or the model or a format is none of ours.
        VerificationError: when an artifact does not do what the model does.
    """
    out, kind = Path(out), _kind(model)
    check_formats(formats, quantized)
    if out.exists():
        raise InputError("--out", "a folder that does not exist yet", out, "give another name")
    served = kind(model, **options)
    subwords = any(tokenizer.level == "subword" for tokenizer in served.tokenizers)
    if "onnx" in formats and subwords and not _has_extensions():
        raise InputError(
            "format",
            "onnxruntime-extensions, which ONNX subwords need",
            "none installed",
            "pip install 'kerasrnn[sentencepiece-onnx]', or --format saved_model",
        )
    said = metadata_of(served, metadata or {})
    with staging(out) as partial:
        for name in formats:
            file, write, _ = WRITERS[name]
            write(served, partial / file, said)
        _verify(served, {name: partial / WRITERS[name][0] for name in formats})
        _quantize(served, partial, quantized, measure)
        os.rename(partial, out)
    names = [WRITERS[name][0] for name in formats]
    return [out / name for name in (*names, *map(SMALL.format, quantized))]


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


def _quantize(served, folder: Path, quantized: Sequence[str], measure) -> None:
    """Write, run and measure the smaller files beside the full one."""
    full = folder / WRITERS["onnx"][0]
    cases = [case for case in served.cases() if _names(served.signature) >= case.keys()]
    figures = measure(full, None) if measure and quantized else None
    for kind in quantized:
        small = quantize(full, folder / SMALL.format(kind), kind, cases)
        if measure:
            found = {"full": figures, kind: measure(small, kind)}
            onnx_file.add_metadata(small, {"measured": json.dumps(found)})


def _answers(served, artifacts: dict[str, Path]) -> Iterator[tuple[Path, list[Case], list[Case]]]:
    """Each artifact, the cases that its format takes, and what the model says to them."""
    cases = served.cases()
    expected = [served.answer(case) for case in cases]
    for name, path in artifacts.items():
        takes = WRITERS[name][2](served)
        fits = [i for i, case in enumerate(cases) if takes >= case.keys()]
        yield path, [cases[i] for i in fits], [expected[i] for i in fits]


def _verify(served, artifacts: dict[str, Path]) -> None:
    """Every case against the model."""
    for answers in _answers(served, artifacts):
        verify(*answers)


def verify_export(model, artifact: str | Path) -> tuple[int, int] | None:
    """Whether an artifact still does what the model does, its search as it was exported.

    Args:
        model: a trained model of ours.
        artifact: an ONNX file or a SavedModel that `export` wrote.

    Returns:
        None when it does; of a quantized file, which need not, in how many cases it writes the
        same, and of how many.

    Raises:
        InputError: when it is neither, or of another task.
        VerificationError: naming the first case that differs.
    """
    artifact, kind = Path(artifact), _kind(model)
    said = read_metadata(artifact)
    if said["task"] != kind.task:
        received = f"{artifact}, a {said['task']}"
        raise InputError("EXPORT", f"a {kind.task}", received, "give the run that it came from")
    served = kind(model, **search_in(said))
    artifacts = {"saved_model" if artifact.is_dir() else "onnx": artifact}
    if "quantized" not in said:
        _verify(served, artifacts)
        return None
    [(path, cases, expected)] = _answers(served, artifacts)
    return agreeing(path, cases, expected), len(cases)
