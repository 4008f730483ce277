"""Export: write a model's artifacts, check each in a fresh process, then let them appear."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from kerasrnn.errors import InputError
from kerasrnn.export import captioner, language_model, onnx_file, saved_model, translator
from kerasrnn.export.onnx_text import OPSET
from kerasrnn.export.verify import verify
from kerasrnn.files import staging
from kerasrnn.recurrence import exporting

TASKS = {
    "Captioner": captioner.Served,
    "Ensemble": translator.Served,
    "LanguageModel": language_model.Served,
    "Translator": translator.Served,
}
FORMATS = ("onnx", "saved_model")


def _onnx(served, path: Path) -> None:
    core = onnx_file.convert(served.core, served.core_signature, served.core_outputs)
    levels = [tokenizer.level for tokenizer in served.tokenizers]
    metadata = {"task": served.task, "tokenizer": ", ".join(levels), "opset": str(OPSET)}
    onnx_file.write(served.with_text(core), path, metadata)


def _saved_model(served, path: Path) -> None:
    captured = [served.model.variables, *served.tokenizers]
    saved_model.write(served.signatures, served.outputs, captured, path)


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


def export(model, out: str | Path, formats: Sequence[str] = FORMATS, **options) -> list[Path]:
    """Write `model` to the new folder `out` as `model.onnx` and `saved_model/`.

    Every artifact runs in a fresh process on the model's own examples and on awkward inputs
    before `out` appears; when anything differs nothing is left behind.

    Args:
        model: a trained model of ours.
        out: a folder that does not exist yet.
        formats: some of "onnx" and "saved_model".
        options: of the task: `rules` and `max_length` of a translator's or captioner's search.

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, or the model or a format is none of ours.
        VerificationError: when an artifact does not do what the model does.
    """
    out = Path(out)
    kind = TASKS.get(type(model).__name__)
    if kind is None:
        raise InputError(
            "model", f"one of {', '.join(TASKS)}", type(model).__name__, "give one of them"
        )
    for name in formats:
        if name not in WRITERS:
            raise InputError("format", f"one of {', '.join(WRITERS)}", name, "choose one of them")
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
    with staging(out) as partial:
        cases = served.cases()
        expected = [served.answer(case) for case in cases]
        for name in formats:
            file, write, takes = WRITERS[name]
            with exporting():
                write(served, partial / file)
            fits = [i for i, case in enumerate(cases) if takes(served) >= case.keys()]
            verify(partial / file, [cases[i] for i in fits], [expected[i] for i in fits])
        os.rename(partial, out)
    return [out / WRITERS[name][0] for name in formats]
