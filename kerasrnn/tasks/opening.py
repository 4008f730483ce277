"""Open a run folder, an ONNX file or a SavedModel as a function from arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.base.errors import InputError, first_line
from kerasrnn.export.runner import load
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.task import Task


def open_model(path: Path, from_run: Callable[[Path, object], Callable], task: Task):
    """Open a model as a function from a dict of arrays to a dict of arrays.

    Args:
        path: a run folder, an ONNX file or a SavedModel. An ONNX file needs only onnxruntime.
        from_run: (run folder, its Keras model) -> the function.
        task: the task of the model.

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
        return _open_run(path, from_run, task)
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
    if task.input not in model.inputs:
        others = [other for other in TASKS.values() if other.input in model.inputs]
        raise InputError("MODEL", task.noun, path, _use(others))
    return _checked_function(model, path, task)


def _use(tasks: list[Task]) -> str:
    """Return the advice about a model of the first of these tasks."""
    return f"use `kerasrnn {tasks[0].verb}`" if tasks else "give another"


def _checked_function(model, path: Path, task: Task):
    """Return `model` with its faults reported as faults of the file (InputError)."""

    def answer(inputs: dict) -> dict:
        try:
            answers = model(inputs)
        except Exception as error:  # the right inputs do not prove that the file is ours
            raise _faulty_file("a model that answers", path, error) from error
        for name in task.answers:
            if name not in answers:
                raise _faulty_file("a model that answers", path, f"without {name}")
        return answers

    return answer


def _faulty_file(expected: str, path: Path, error: Exception | str) -> InputError:
    """Return the error about a file that does not work."""
    return InputError("MODEL", expected, f"{path} ({first_line(error)})", "export it again")


def _open_run(path: Path, from_run, task: Task):
    """Open a run folder, after a check of its task (InputError)."""
    from kerasrnn.tasks import run_folder  # it loads TensorFlow, which an artifact does not need

    name = run_folder.read_config(path).get("task")
    if name != task.name:
        others = [TASKS[name]] if name in TASKS else []
        raise InputError("RUN", task.noun, f"{path}, whose task is {name}", _use(others))
    task.work  # noqa: B018  (it imports the classes of the model, which Keras finds only then)
    return from_run(path, run_folder.load_model(path))


def open_search(
    model: str, from_run: Callable[[Path, object, dict], Callable], task: Task, **asked
):
    """Open a model with a beam search, and change `beam`, `n_best` or `max_length` of the search.

    Args:
        model: a path, as in `open_model`.
        from_run: (run folder, its Keras model, options to change) -> the function.
        task: as in `open_model`.
        asked: `beam`, `n_best` and `max_length`; None leaves the run's setting. In an exported
            model the search is fixed; only `n_best` may be given, up to its exported value.

    Raises:
        InputError: as `open_model` does, and when an export cannot do what is asked.
    """
    path = Path(model)
    changed = {name: value for name, value in asked.items() if value is not None}
    function = open_model(path, lambda *run: from_run(*run, changed), task)
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
