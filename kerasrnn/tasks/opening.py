"""Open a run folder, an ONNX file or a SavedModel as a function from arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasrnn.base.choices import BEST
from kerasrnn.base.errors import InputError, first_line
from kerasrnn.export.runner import STREAMING, load
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.task import Task

# The step where a task is unknown.
OTHER = "give another folder, or --import the package that has the task"


def open_model(model: str, task: Task, **asked) -> Callable[[dict], dict]:
    """Open a model as a function from a dict of arrays to a dict of arrays.

    Args:
        model: a run folder, an ONNX file or a SavedModel. An ONNX file needs only onnxruntime.
        task: the task of the model.
        asked: of a beam search, `beam`, `n_best` and `max_length`; None leaves the run's setting.
            In an exported model the search is fixed; only `n_best` may be given, up to its exported
            value.

    Raises:
        InputError: when the path is none of these, has a model of another task, or cannot be
            loaded; when an export cannot do what is asked. The function raises it when the model
            fails or lacks an output.
    """
    path = Path(model)
    changed = {name: value for name, value in asked.items() if value is not None}
    if not path.exists():
        raise InputError(
            "MODEL", "a run folder, an ONNX file or a SavedModel", path, "check the path"
        )
    if path.is_dir() and not (path / "saved_model.pb").exists():
        refuse_exports(path)
        return _open_run(path, task, changed)
    function = _open_export(path, task)
    n_best = changed.pop("n_best", 1)
    if changed:
        name = next(iter(changed)).replace("_", "-")
        expected = "a run folder beside it, an exported search being fixed"
        raise InputError(f"--{name}", expected, model, f"export again with --{name}")
    return _n_best_of(function, n_best) if n_best > 1 else function


def _n_best_of(function: Callable, n_best: int) -> Callable:
    """The function of an export, which refuses to give more answers than it has."""

    def checked(inputs: dict) -> dict:
        answers = function(inputs)
        exported = answers["text"].shape[1]
        if exported < n_best:
            raise InputError("--n-best", f"at most {exported}, as exported", n_best, "export again")
        return answers

    return checked


def _open_export(path: Path, task: Task) -> Callable:
    """The function of an ONNX file or a SavedModel."""
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
    check_whole(path, model.metadata)
    if model.metadata.get("task") != task.name:
        others = [other for name, other in TASKS.items() if name == model.metadata.get("task")]
        raise InputError("MODEL", task.noun, path, _use(others))
    return _checked_function(model, path, task)


def check_whole(path: Path, metadata: dict[str, str]) -> None:
    """Refuse a file that is one step of a model, or that says what a truth costs (InputError)."""
    what = "one step" if STREAMING in metadata else ""
    what = "what a truth costs" if metadata.get("form") == "score" else what
    if what:
        whole = path.with_name("model.onnx")
        raise InputError("MODEL", "a whole model", f"{path}, which is {what}", f"give {whole}")


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
        for place in task.gives:
            if place.name not in answers:
                raise _faulty_file("a model that answers", path, f"without {place.name}")
        return answers

    return answer


def _faulty_file(expected: str, path: Path, error: Exception | str) -> InputError:
    """Return the error about a file that does not work."""
    return InputError("MODEL", expected, f"{path} ({first_line(error)})", "export it again")


def _open_run(path: Path, task: Task, changed: dict) -> Callable:
    """The function of a run folder."""
    # They load TensorFlow, which an artifact does not need.
    from kerasrnn.export.forms import answer
    from kerasrnn.tasks.search import search_of

    model = load_for(path, task)
    search = search_of(path, model, task.settings, **changed) if task.searches else {}
    served = model.served(**search)
    return lambda case: answer(served, case)


def load_for(run: str | Path, task: Task):
    """The best model of a run, after a check of its task (InputError)."""
    from kerasrnn.tasks import run_folder

    name = run_folder.read_config(run).get("task")
    if name != task.name:
        others = [TASKS[name]] if name in TASKS else []
        raise InputError("RUN", task.noun, f"{run}, whose task is {name}", _use(others))
    return load_run(run)[1]


def load_run(run: str | Path, checkpoint: str = BEST):
    """(the task of a run, its Keras model: the best one, or that of the last checkpoint).

    Raises:
        InputError: when the run cannot be used, or its task is none that is known.
    """
    from kerasrnn.tasks import run_folder
    from kerasrnn.tasks.trust import trust_package

    name = run_folder.read_config(run)["task"]
    if name not in TASKS:
        raise InputError("RUN", f"a run of {', '.join(TASKS)}", name, OTHER)
    TASKS[name].work  # noqa: B018  (it imports the classes of the model, which Keras finds only then)
    # The user installed, or imported, the package of the task.
    trust_package(TASKS[name].package)
    return TASKS[name], run_folder.load_chosen(run, checkpoint)


def refuse_exports(path: Path) -> None:
    """Refuse a folder of exported models, and name the models in it (InputError)."""
    models = [str(path / name) for name in ("model.onnx", "saved_model") if (path / name).exists()]
    if models:
        raise InputError(
            "MODEL", "a model", f"{path}, which holds some", f"give {' or '.join(models)}"
        )
