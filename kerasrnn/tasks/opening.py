"""A model as a function of named arrays, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.errors import InputError
from kerasrnn.export.runner import load

COMMANDS = {"prompt": ("a language model", "generate"), "source": ("a translator", "translate")}


def open_model(path: Path, from_run: Callable[[Path], Callable], takes: str):
    """A function from a dict of arrays to a dict of arrays.

    Args:
        path: a run folder, an ONNX file or a SavedModel. An ONNX file needs onnxruntime alone.
        from_run: opens a run folder.
        takes: the input by which the task is known, a key of `COMMANDS`.

    Raises:
        InputError: when it is none of these, of another task, or cannot be loaded.
    """
    if not path.exists():
        raise InputError(
            "MODEL", "a run folder, an ONNX file or a SavedModel", path, "check the path"
        )
    if path.is_dir() and not (path / "saved_model.pb").exists():
        _refuse_exports(path)
        return from_run(path)
    try:
        run = load(path)
    except ImportError as error:
        extra = "pip install 'kerasrnn[sentencepiece-onnx]'"
        raise InputError("MODEL", "all that it needs", error, extra) from error
    except Exception as error:  # each runtime has exceptions of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            "MODEL", "an exported model", f"{path} ({reason})", "export it again"
        ) from error
    if takes not in run.inputs:
        known = [command for name, (_, command) in COMMANDS.items() if name in run.inputs]
        step = f"use `kerasrnn {known[0]}`" if known else "give another"
        raise InputError("MODEL", COMMANDS[takes][0], path, step)
    return run


def _refuse_exports(path: Path) -> None:
    inside = [str(path / name) for name in ("model.onnx", "saved_model") if (path / name).exists()]
    if inside:
        raise InputError(
            "MODEL", "a model", f"{path}, which holds some", f"give {' or '.join(inside)}"
        )
