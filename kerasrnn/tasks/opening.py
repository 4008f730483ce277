"""Open a run folder, an ONNX file or a SavedModel as a function from arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.export.runner import load
from kerasrnn.export.untrusted import check_artifact

# input that only models of one task have -> name of the model, command, task in `config.json`
COMMANDS = {
    "prompt": ("a language model", "generate", "lm"),
    "source": ("a translator", "translate", "translator"),
    "image": ("a captioner", "caption", "captioner"),
}
# the same input -> outputs that the model must have
ANSWERS = {
    "prompt": ("text",),
    "source": ("text", "score", "target_tokens", "source_tokens", "attention"),
    "image": ("text", "score", "target_tokens", "attention"),
}


def open_model(path: Path, from_run: Callable[[Path, object], Callable], takes: str):
    """Open a model as a function from a dict of arrays to a dict of arrays.

    Args:
        path: a run folder, an ONNX file or a SavedModel. An ONNX file needs only onnxruntime.
        from_run: (run folder, its Keras model) -> the function.
        takes: the input that shows the task, a key of `COMMANDS`.

    Raises:
        InputError: when the path is none of these, has a model of another task, or cannot be
            loaded. The function raises it when the model fails or lacks an output.
    """
    if not path.exists():
        raise InputError(
            "MODEL", "a run folder, an ONNX file or a SavedModel", path, "check the path"
        )
    if path.is_dir() and not (path / "saved_model.pb").exists():
        _refuse_exports(path)
        return _open_run(path, from_run, takes)
    try:
        check_artifact(path)  # before it is loaded: the file may be a stranger's
        model = load(path)
    except InputError:
        raise
    except ImportError as error:
        extra = "pip install 'kerasrnn[sentencepiece-onnx]'"
        raise InputError("MODEL", "all that it needs", error, extra) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise _faulty_file("an exported model", path, error) from error
    if getattr(model, "streams", False):
        whole = path.with_name("model.onnx")
        raise InputError("MODEL", "a whole model", f"{path}, which is one step", f"give {whole}")
    if takes not in model.inputs:
        commands = [command for name, (_, command, _) in COMMANDS.items() if name in model.inputs]
        step = f"use `kerasrnn {commands[0]}`" if commands else "give another"
        raise InputError("MODEL", COMMANDS[takes][0], path, step)

    return _checked_function(model, path, takes)


def _checked_function(model, path: Path, takes: str):
    """Return `model` with its faults reported as faults of the file (InputError)."""

    def answer(inputs: dict) -> dict:
        try:
            answers = model(inputs)
        except Exception as error:  # the right inputs do not prove that the file is ours
            raise _faulty_file("a model that answers", path, error) from error
        for name in ANSWERS[takes]:
            if name not in answers:
                raise _faulty_file("a model that answers", path, f"without {name}")
        return answers

    return answer


def _faulty_file(expected: str, path: Path, error: Exception | str) -> InputError:
    """Return the error about a file that does not work."""
    return InputError("MODEL", expected, f"{path} ({first_line(error)})", "export it again")


def _open_run(path: Path, from_run, takes: str):
    """Open a run folder, after a check of its task (InputError)."""
    from kerasrnn.tasks import run_folder  # it loads TensorFlow, which an artifact does not need

    task, (expected, _, wanted_task) = run_folder.read_config(path).get("task"), COMMANDS[takes]
    if task != wanted_task:
        commands = [command for _, command, name in COMMANDS.values() if name == task]
        step = f"use `kerasrnn {commands[0]}`" if commands else "give another"
        raise InputError("RUN", expected, f"{path}, whose task is {task}", step)
    return from_run(path, run_folder.load_model(path))


def open_search(
    model: str, from_run: Callable[[Path, object, dict], Callable], takes: str, **asked
):
    """Open a model with a beam search, and change `beam`, `n_best` or `max_length` of the search.

    Args:
        model: a path, as in `open_model`.
        from_run: (run folder, its Keras model, options to change) -> the function.
        takes: as in `open_model`.
        asked: `beam`, `n_best` and `max_length`; None leaves the run's setting. In an exported
            model the search is fixed; only `n_best` may be given, up to its exported value.

    Raises:
        InputError: as `open_model` does, and when an export cannot do what is asked.
    """
    path = Path(model)
    changed = {name: value for name, value in asked.items() if value is not None}
    function = open_model(path, lambda *run: from_run(*run, changed), takes)
    if not (path.is_file() or (path / "saved_model.pb").exists()):
        return function
    n_best = changed.pop("n_best", 1)
    if changed:
        name = next(iter(changed)).replace("_", "-")
        expected = "a run folder beside it, an exported search being fixed"
        raise InputError(f"--{name}", expected, model, f"export again with --{name}")

    def checked(inputs: dict) -> dict:
        answers = function(inputs)
        exported = answers["text"].shape[1]
        if exported < n_best:
            raise InputError("--n-best", f"at most {exported}, as exported", n_best, "export again")
        return answers

    return checked


def _refuse_exports(path: Path) -> None:
    """Refuse a folder of exported models, and name the models in it (InputError)."""
    models = [str(path / name) for name in ("model.onnx", "saved_model") if (path / name).exists()]
    if models:
        raise InputError(
            "MODEL", "a model", f"{path}, which holds some", f"give {' or '.join(models)}"
        )
