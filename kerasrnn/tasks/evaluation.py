"""Evaluate the best model of a run, for any task."""

from __future__ import annotations

from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.needs import EVALUATED, check_needs

# task -> name of its model, files to measure it on, options about these files
FILES = {
    "lm": ("a language model", ("text",), ()),
    "translator": ("a translator", ("source", "target"), ()),
    "captioner": ("a captioner", ("images", "captions"), ("split",)),
}


def files_for(run: str | Path, files: dict) -> tuple[str, list]:
    """Return the task of a run, and the values of `files` that its task uses.

    Args:
        run: the run folder.
        files: values by name, as for `evaluate`.

    Returns:
        (task, values in the order of `FILES`, None for a name without a value).

    Raises:
        InputError: when the run cannot be used, a file is not for its task, or a file needs
            another one that is missing.
    """
    task = run_folder.read_config(run).get("task")
    if task not in FILES:
        raise InputError("RUN", f"a run of {', '.join(FILES)}", task, "give another folder")
    kind, file_names, options = FILES[task]
    for name, value in files.items():
        if value and name not in file_names + options:
            wanted = " and ".join(f"--{n}" for n in file_names)
            received = value[0] if isinstance(value, list) else value
            raise InputError(f"--{name}", f"{wanted} for {kind}", received, f"give {wanted}")
    given_names = [name for name, value in files.items() if value]
    check_needs("evaluate", dict.fromkeys(EVALUATED) | files, given_names)
    if not given_names and not run_data.sources(run_folder.read_config(run)):
        expected, step = "a run that says what it was trained on", f"give --{file_names[0]}"
        raise InputError("RUN", expected, f"{run}, which does not", step)
    return task, [files.get(name) for name in file_names + options]


def evaluate(run: str | Path, say=lambda text: None, *, drawn: bool = False, **files) -> dict:
    """Return the scores of a run's best model, on the given files or on its validation data.

    Args:
        run: the run folder.
        say: called with a message, for example about data that was left out.
        drawn: whether the hard attention of a captioner draws its positions.
        files: by name, None where a file is not given. For a language model `text`, a list. For a
            translator `source` and `target`, aligned line by line, or only `source`, a TSV file.
            For a captioner `captions`, `images`, a folder (default: that of the run), and
            `split`, which selects images.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    from kerasrnn.tasks import captioning, language_model, translation

    task, values = files_for(run, files)
    if not any(values):
        names = ", ".join(run_data.sources(run_folder.read_config(run)))
        say(f"reading what {run} names: {names}")
    if task == "captioner":
        return captioning.evaluate(run, *values, drawn=drawn, say=say)
    if drawn:
        received = FILES[task][0]
        raise InputError("--drawn", "a captioner's run beside it", received, "leave it out")
    return (language_model if task == "lm" else translation).evaluate(run, *values)
