"""Export: write a model's artifacts, check each in a fresh process, then let them appear."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from kerasrnn.errors import InputError
from kerasrnn.export import language_model, onnx_file, saved_model
from kerasrnn.export.onnx_text import OPSET
from kerasrnn.export.verify import verify
from kerasrnn.files import staging
from kerasrnn.recurrence import exporting

TASKS = {"LanguageModel": language_model}
FORMATS = ("onnx", "saved_model")


def _onnx(model, task, path: Path) -> None:
    core = onnx_file.convert(task.core(model), task.CORE_SIGNATURE, task.CORE_OUTPUTS)
    whole = onnx_file.with_text(core, model.tokenizer, task.SIGNATURE[0].name, task.OUTPUTS[0])
    metadata = {"task": task.TASK, "tokenizer": model.tokenizer.level, "opset": str(OPSET)}
    onnx_file.write(whole, path, metadata)


def _saved_model(model, task, path: Path) -> None:
    captured = [model.variables, model.tokenizer]
    saved_model.write(task.serve(model), task.SIGNATURE, task.OUTPUTS, captured, path)


WRITERS = {"onnx": ("model.onnx", _onnx), "saved_model": ("saved_model", _saved_model)}


def _has_extensions() -> bool:
    # Only looked for: in one process with TensorFlow Text it crashes.
    return importlib.util.find_spec("onnxruntime_extensions") is not None


def export(model, out: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `model` to the new folder `out` as `model.onnx` and `saved_model/`.

    Every artifact runs in a fresh process on the model's own examples and on awkward inputs
    before `out` appears; when anything differs nothing is left behind.

    Args:
        model: a trained model of ours.
        out: a folder that does not exist yet.
        formats: some of "onnx" and "saved_model".

    Returns:
        The paths written.

    Raises:
        InputError: when `out` exists, or the model or a format is none of ours.
        VerificationError: when an artifact does not do what the model does.
    """
    out = Path(out)
    task = TASKS.get(type(model).__name__)
    if task is None:
        raise InputError(
            "model", f"one of {', '.join(TASKS)}", type(model).__name__, "give one of them"
        )
    for name in formats:
        if name not in WRITERS:
            raise InputError("format", f"one of {', '.join(WRITERS)}", name, "choose one of them")
    if out.exists():
        raise InputError("--out", "a folder that does not exist yet", out, "give another name")
    if "onnx" in formats and model.tokenizer.level == "subword" and not _has_extensions():
        raise InputError(
            "format",
            "onnxruntime-extensions, which ONNX subwords need",
            "none installed",
            "pip install 'kerasrnn[sentencepiece-onnx]', or --format saved_model",
        )
    with staging(out) as partial:
        cases = task.cases(model)
        expected = [task.answer(model, case) for case in cases]
        for name in formats:
            file, write = WRITERS[name]
            with exporting():
                write(model, task, partial / file)
            verify(partial / file, cases, expected)
        os.rename(partial, out)
    return [out / WRITERS[name][0] for name in formats]
