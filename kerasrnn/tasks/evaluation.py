"""A run's model measured, whatever its task."""

from __future__ import annotations

from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.needs import EVALUATED, check_needs

# task -> its name, the files that it is measured on, and what else can be asked of them
FILES = {
    "lm": ("a language model", ("text",), ()),
    "translator": ("a translator", ("source", "target"), ()),
    "captioner": ("a captioner", ("images", "captions"), ("split",)),
}


def files_for(run: str | Path, files: dict) -> tuple[str, list]:
    """A run's task, and of `files` those that it is measured on, None for what is not given.

    Raises:
        InputError: when the run cannot be used, or a file is not for its task or means nothing
            without another.
    """
    task = run_folder.read_config(run).get("task")
    if task not in FILES:
        raise InputError("RUN", f"a run of {', '.join(FILES)}", task, "give another folder")
    kind, own, options = FILES[task]
    for name, value in files.items():
        if value and name not in own + options:
            wanted = " and ".join(f"--{n}" for n in own)
            received = value[0] if isinstance(value, list) else value
            raise InputError(f"--{name}", f"{wanted} for {kind}", received, f"give {wanted}")
    given = [name for name, value in files.items() if value]
    check_needs("evaluate", dict.fromkeys(EVALUATED) | files, given)
    if not given and not run_folder.sources(run_folder.read_config(run)):
        expected, step = "a run that says what it was trained on", f"give --{own[0]}"
        raise InputError("RUN", expected, f"{run}, which does not", step)
    return task, [files.get(name) for name in own + options]


def evaluate(run: str | Path, say=lambda text: None, *, drawn: bool = False, **files) -> dict:
    """The figures of a run's best model, on the files given or on what it was validated on.

    Args:
        run: the run folder.
        say: told what was left out.
        drawn: whether a captioner's hard attention draws its places.
        files: `text`, a list, for a language model; `source` and `target`, aligned, for a
            translator, `source` alone being a TSV file; `captions`, of which the images of
            `split`, and `images`, a folder (default: the run's own), for a captioner. None for
            those not given.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    from kerasrnn.tasks import captioning, language_model, translation

    task, given = files_for(run, files)
    if not any(given):
        names = ", ".join(run_folder.sources(run_folder.read_config(run)))
        say(f"reading what {run} names: {names}")
    if task == "captioner":
        return captioning.evaluate(run, *given, drawn=drawn, say=say)
    if drawn:
        received = FILES[task][0]
        raise InputError("--drawn", "a captioner's run beside it", received, "leave it out")
    return (language_model if task == "lm" else translation).evaluate(run, *given)
