"""A model as a function of named arrays, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.export.runner import load
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.tasks import run_folder

# the input by which a task is known -> its model, its command, what its runs say
COMMANDS = {
    "prompt": ("a language model", "generate", "lm"),
    "source": ("a translator", "translate", "translator"),
    "image": ("a captioner", "caption", "captioner"),
}
# ... -> what its answers hold
ANSWERS = {
    "prompt": ("text",),
    "source": ("text", "score", "target_tokens", "source_tokens", "attention"),
    "image": ("text", "score", "target_tokens", "attention"),
}


def open_model(path: Path, from_run: Callable[[Path, object], Callable], takes: str):
    """A function from a dict of arrays to a dict of arrays.

    Args:
        path: a run folder, an ONNX file or a SavedModel. An ONNX file needs onnxruntime alone.
        from_run: makes it of a run folder and its model.
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
        return _opened_run(path, from_run, takes)
    try:
        check_artifact(path)
        run = load(path)
    except InputError:
        raise
    except ImportError as error:
        extra = "pip install 'kerasrnn[sentencepiece-onnx]'"
        raise InputError("MODEL", "all that it needs", error, extra) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise _faulty("an exported model", path, error) from error
    if getattr(run, "streams", False):
        whole = path.with_name("model.onnx")
        raise InputError("MODEL", "a whole model", f"{path}, which is one step", f"give {whole}")
    if takes not in run.inputs:
        known = [command for name, (_, command, _) in COMMANDS.items() if name in run.inputs]
        step = f"use `kerasrnn {known[0]}`" if known else "give another"
        raise InputError("MODEL", COMMANDS[takes][0], path, step)

    return _answering(run, path, takes)


def _answering(run, path: Path, takes: str):
    """`run`, whose faults are those of the file."""

    def answer(inputs: dict) -> dict:
        try:
            answers = run(inputs)
        except Exception as error:  # the file is not what its inputs promise
            raise _faulty("a model that answers", path, error) from error
        for name in ANSWERS[takes]:
            if name not in answers:
                raise _faulty("a model that answers", path, f"without {name}")
        return answers

    return answer


def _faulty(expected: str, path: Path, error: Exception | str) -> InputError:
    return InputError("MODEL", expected, f"{path} ({first_line(error)})", "export it again")


def _opened_run(path: Path, from_run, takes: str):

    task, (wanted, _, own) = run_folder.read_config(path).get("task"), COMMANDS[takes]
    if task != own:
        known = [command for _, command, name in COMMANDS.values() if name == task]
        step = f"use `kerasrnn {known[0]}`" if known else "give another"
        raise InputError("RUN", wanted, f"{path}, whose task is {task}", step)
    return from_run(path, run_folder.load_model(path))


def open_search(
    model: str, from_run: Callable[[Path, object, dict], Callable], takes: str, **asked
):
    """`open_model` of what searches, with `beam`, `n_best` and `max_length` as asked for.

    Args:
        model: a path, as in `open_model`.
        from_run: makes it of a run folder, its model and what is changed.
        takes: as in `open_model`.
        asked: None for the run's own; an exported search is fixed.

    Raises:
        InputError: as `open_model` does, and when more is asked of an export than it can.
    """
    path = Path(model)
    changed = {name: value for name, value in asked.items() if value is not None}
    run = open_model(path, lambda *opened: from_run(*opened, changed), takes)
    if not (path.is_file() or (path / "saved_model.pb").exists()):
        return run
    n_best = changed.pop("n_best", 1)
    if changed:
        name = next(iter(changed)).replace("_", "-")
        expected = "a run folder beside it, an exported search being fixed"
        raise InputError(f"--{name}", expected, model, f"export again with --{name}")

    def checked(inputs: dict) -> dict:
        found = run(inputs)
        given = found["text"].shape[1]
        if given < n_best:
            raise InputError("--n-best", f"at most {given}, as exported", n_best, "export again")
        return found

    return checked


def _refuse_exports(path: Path) -> None:
    inside = [str(path / name) for name in ("model.onnx", "saved_model") if (path / name).exists()]
    if inside:
        raise InputError(
            "MODEL", "a model", f"{path}, which holds some", f"give {' or '.join(inside)}"
        )
