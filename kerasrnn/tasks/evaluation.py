"""Evaluate a run, an ONNX file or a SavedModel, for any task."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras

from kerasrnn.base.errors import InputError
from kerasrnn.export.artifact import small_name
from kerasrnn.export.forms import Onnx, Score
from kerasrnn.export.metadata import places_in, read_metadata, tokenizers_in
from kerasrnn.export.runner import GRAPH
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.catalog import TASKS, check_needs, options_of, owners
from kerasrnn.tasks.measuring import Exported, Known, Measure, RunsModel, scores_of
from kerasrnn.tasks.opening import OTHER, check_whole, load_run, refuse_exports
from kerasrnn.tasks.search import search_of
from kerasrnn.tasks.task import Task


def evaluate(model: str | Path, say=lambda text: None, **options) -> dict:
    """Return the scores of a run's best model or of an exported one.

    Args:
        model: a run folder, an ONNX file or a SavedModel.
        say: called with a message, for example about data that was left out.
        options: values of the options that `kerasrnn evaluate` has for the task, by name; None
            where one is not given. Without any a run is measured on its validation data.

    Raises:
        InputError: when the model or a file cannot be used, or is not for this task.
    """
    path = Path(model)
    is_export = path.is_file() or (path / GRAPH).exists()
    if path.is_dir() and not is_export:
        refuse_exports(path)
    work, known, asked, values = (_of_export if is_export else _of_run)(path, options, say)
    with tempfile.TemporaryDirectory() as folder:
        measured = work.measured(known, Path(folder), say, **values)
        return scores_of(work, measured, asked(measured))


def _of_run(run: Path, options: dict, say):
    """(work, what is known, what answers, options) of a run."""
    task, values = _options_for(_task_of(run_folder.read_config(run)["task"]), options)
    _check_sources(run, task, values, say)
    model = load_run(run)[1]

    def asked(measured):
        search = search_of(run, model, task.settings) if task.searches else {}
        return RunsModel(model.served(**search, **measured.asked))

    return task.work, known_of_run(task, run, model), asked, values


def known_of_run(task: Task, run: Path, model: keras.Model) -> Known:
    """What is known of a run's model."""
    job, served = run_folder.read_job(run, task.job, task.settings), model.served()
    return Known(job.settings, served.takes, served.tokenizers, job, Path(run), model)


def _of_export(path: Path, options: dict, say):
    """(work, what is known, what answers, options) of an exported model."""
    check_artifact(path)
    metadata, scoring = read_metadata(path), scoring_of(path)
    check_whole(path, metadata)
    if places_in(metadata, "scores") and not scoring.exists():
        step = "copy it too, or export it anew: `kerasrnn export` writes both"
        raise InputError("MODEL", f"{scoring.name} beside it", f"{path} alone", step)
    task, values = _options_for(_task_of(metadata["task"]), options)
    if not any(values[name] for name in task.files):
        wanted = " and ".join(f"--{name}" for name in task.files)
        raise InputError(wanted, "what to measure it on", "nothing", f"give {wanted}")
    said = read_metadata(scoring) if scoring.exists() else metadata
    settings = settings_in(task, metadata)
    known = Known(settings, places_in(metadata, "takes"), tokenizers_in(said))
    return task.work, known, lambda measured: Exported(path, scoring), values


def scoring_of(path: Path) -> Path:
    """Where an exported model says what a truth costs; for an ONNX file it may be missing."""
    if path.is_dir():
        return path
    kind = path.name.removeprefix(Path(Onnx.file).stem).removesuffix(".onnx").strip(".")
    return path.with_name(small_name(Score.file, kind) if kind else Score.file)


def settings_in(task: Task, metadata: dict[str, str]):
    """The settings of the training, as far as an artifact's metadata has them."""
    known = json.loads(metadata.get("settings", "{}"))
    names = {field.name for field in dataclasses.fields(task.settings)}
    return task.settings(**{name: value for name, value in known.items() if name in names})


def _task_of(name: str) -> Task:
    if name not in TASKS:
        raise InputError("RUN", f"a run of {', '.join(TASKS)}", name, OTHER)
    return TASKS[name]


def _options_for(task: Task, files: dict, command: str = "evaluate") -> tuple[Task, dict]:
    """(task, the values of the options that its `command` has, by name).

    Raises:
        InputError: when an option is not for the task, or needs another one that is missing.
    """
    options = {option.name: option for option in task.options_of(command)}
    for name, value in files.items():
        if value and name not in options:
            raise _foreign(name, value, task, command)
    given_names = [name for name, value in files.items() if value]
    values = {name: files.get(name) or option.default for name, option in options.items()}
    check_needs(command, values, given_names, task.name)
    return task, values


def _check_sources(run: Path, task: Task, values: dict, say) -> None:
    """Say what a run names where no file is given; refuse a run that names none (InputError)."""
    if any(values.values()):
        return
    names = run_data.sources(run_folder.read_config(run))
    if not names:
        expected, step = "a run that says what it was trained on", f"give --{task.files[0]}"
        raise InputError("RUN", expected, f"{run}, which does not", step)
    say(f"reading what {run} names: {', '.join(names)}")


def _foreign(name: str, value, task: Task, command: str) -> InputError:
    """Return the error about an option of another task."""
    option = options_of(command)[name]
    if option.value is not None:
        nouns = " or ".join(f"{owner.noun}'s" for owner in owners(name, command))
        return InputError(option.typed, f"{nouns} run beside it", task.noun, "leave it out")
    wanted = " and ".join(f"--{n}" for n in task.files)
    received = value[0] if isinstance(value, list) else value
    return InputError(option.typed, f"{wanted} for {task.noun}", received, f"give {wanted}")


def measure_of(run: Path, model: keras.Model, say: Callable[[str], None], **files) -> Measure:
    """The function that measures an exported ONNX file of a run: file -> scores by name.

    Args:
        run: the run folder.
        model: its Keras model.
        say: called with a message, for example about data that was left out.
        files: as for `evaluate`; a part of them is used, see `Work.measured`.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    config = run_folder.read_config(run)
    task, values = _options_for(_task_of(config["task"]), files, "export")
    if not any(values.values()) and not run_data.sources(config):
        _check_sources(run, task, values, say)
    known = dataclasses.replace(known_of_run(task, run, model), model=None)

    def measured_in(folder: str, say):
        return task.work.measured(known, Path(folder), say, few=True, **values)

    def measure(path: Path) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            measured = measured_in(folder, lambda text: None)
            return scores_of(task.work, measured, Exported(path, scoring_of(path)))

    with tempfile.TemporaryDirectory() as folder:
        measured_in(folder, say)  # what cannot be used is refused before anything is written
    return measure
