"""Run the commands of the command line: results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kerasrnn.base.ending import end_process
from kerasrnn.base.errors import InputError
from kerasrnn.cli.parser import make_parser
from kerasrnn.cli.parsing import input_error_line
from kerasrnn.cli.printing import (
    ReaderLeft,
    figures,
    load_tensorflow,
    print_result,
    say,
    write_result,
)
from kerasrnn.cli.training import FAILED, show_settings, train
from kerasrnn.cli.use import use
from kerasrnn.export.verify import VerificationError
from kerasrnn.tasks.catalog import TASKS, add_tasks_of, check_needs, options_of

STOPPED = 130  # exit code for Ctrl-C, as in shells
TERMINATED = 143  # exit code for SIGTERM outside training, as in shells


def _evaluate(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.evaluation import evaluate

    with contextlib.redirect_stdout(sys.stderr):
        files = {name: getattr(args, name) for name in options_of("evaluate")}
        values = evaluate(args.model, say, **files)
    print_result(args, values, figures(values))


def _export(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.exporting import export_run, formats_of, in_words, measured

    formats = formats_of(args.format, args.streaming)
    names = ("beam", "n_best", "max_length", "license", "onnxruntime_web", "checkpoint")
    options = {name: getattr(args, name) for name in names}
    files = {name: getattr(args, name) for name in options_of("export")}
    with contextlib.redirect_stdout(sys.stderr):
        written = export_run(
            args.run, args.out, formats, quantized=args.quantize, files=files, say=say, **options
        )
    paths, measurements = [str(path) for path in written], measured(written)
    for path, sizes in measurements.items():
        say(f"{path}: {in_words(sizes)}")
    data = {"written": paths} | ({"measured": measurements} if measurements else {})
    print_result(args, data, "\n".join(paths))


def _verify(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.exporting import verify_run

    with contextlib.redirect_stdout(sys.stderr):
        comparisons = verify_run(args.run, args.export, args.checkpoint)
    data, lines = {"same": [], "quantized": {}}, []
    for path, counts in comparisons.items():
        if counts is None:
            data["same"].append(str(path))
            lines.append(f"{path}: does what {args.run} does")
        else:
            same, cases = counts[:2]
            data["quantized"][str(path)] = {"same": same, "cases": cases}
            agreement = f"the same answers as {args.run} in {same} of {cases} cases"
            lines.append(f"{path}: quantized, {agreement}")
    print_result(args, data, "\n".join(lines))


def _demo(args) -> int | None:
    load_tensorflow()
    from kerasrnn.tasks.demo import demo
    from kerasrnn.training.interruption import Interrupted

    tasks = [TASKS[args.task]] if args.task else [t for t in TASKS.values() if t.demo]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            lines = demo(tasks, Path(args.out), args.overwrite, say)
    except Interrupted as stop:
        say(f"kerasrnn: stopped; `kerasrnn demo --out {args.out} --overwrite` begins anew")
        return stop.exit_code
    write_result("\n".join(lines))
    return None


def _import(words: Sequence[str]) -> None:
    """Import the packages of --import, whose classes a model may then hold, and their tasks."""
    after = itertools.pairwise(words)
    packages = [package for option, package in after if option == "--import"]
    packages += [word.partition("=")[2] for word in words if word.startswith("--import=")]
    if packages:
        load_tensorflow()
        from kerasrnn.tasks.trust import import_packages

        import_packages(packages)
        for package in packages:
            add_tasks_of(package)


# What is no command here is the verb of a task.
COMMANDS = {
    "demo": _demo,
    "train": train,
    "settings": show_settings,
    "evaluate": _evaluate,
    "export": _export,
    "verify": _verify,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after `kerasrnn`; by default those of this process.

    Returns:
        0 for success, 1 for a failure, 2 for a mistake of the user, 130 after Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words, args = sys.argv[1:] if argv is None else list(argv), None
    try:
        with _raised_signals():
            # Imported before the words are parsed: a task has commands and options of its own.
            _import(words)
            args = make_parser().parse_args(words)
            task = args.task if args.command == "train" else ""
            check_needs(args.command, vars(args), _changed_options(args), task)
            return COMMANDS.get(args.command, use)(args) or 0
    except InputError as error:
        say(f"kerasrnn: {input_error_line(error, args) if args else error}")
        return 2
    except KeyboardInterrupt:
        say("kerasrnn: stopped")
        return STOPPED
    except ReaderLeft:
        # Python flushes stdout once more when it exits, which would fail on the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, VerificationError) as error:
        say(f"kerasrnn: {_error_line(error)}")
        return FAILED


@contextlib.contextmanager
def _raised_signals() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the block, and SIGTERM SystemExit.

    So `finally` blocks remove files that are half written.
    """
    raised = []

    def handle(number, frame):
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED))
        raise raised[-1]

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        # TensorFlow may raise an error of its own in place of what a signal raised inside it.
        if raised:
            raise raised[0] from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _changed_options(args) -> list[str]:
    """Return the names of the options whose values are not the defaults."""
    return [name for name, value in vars(args).items() if value != args.parser.get_default(name)]


def _error_line(error: Exception) -> str:
    """Say in one line what happened, and to which file."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    # By its text, because some libraries raise an OSError without an error number.
    disk_full = isinstance(error, OSError) and os.strerror(errno.ENOSPC) in text
    advice = "; make room and give the same command again" if disk_full else ""
    return " ".join(text.split()) + advice


def program() -> None:
    """Run the command of this process and exit; the installed `kerasrnn` calls this."""
    end_process(main())


if __name__ == "__main__":
    program()
