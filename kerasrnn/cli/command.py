"""Run the commands of the command line: results go to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import errno
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
from kerasrnn.export.verify import VerificationError
from kerasrnn.tasks.catalog import check_needs, options_of

PLOTS = (".png", ".pdf", ".svg")
STOPPED = 130  # exit code for Ctrl-C, as in shells
TERMINATED = 143  # exit code for SIGTERM outside training, as in shells


def _generate(args) -> None:
    from kerasrnn.tasks.lm.use import generate

    if Path(args.model).is_dir():
        load_tensorflow()
    prompts = args.prompt if args.prompt else [""]
    if args.prompt and "" in args.prompt:
        raise InputError(
            "--prompt", "some text", "an empty string", "leave --prompt out to begin from nothing"
        )
    options = {
        name: getattr(args, name) for name in ("length", "temperature", "top_k", "top_p", "seed")
    }
    with contextlib.redirect_stdout(sys.stderr):
        texts = generate(args.model, prompts, **options)
    for text in texts:
        print_result(args, {"text": text}, text)


def _translate(args) -> None:
    from kerasrnn.tasks.translator import use as task

    if Path(args.model).is_dir():
        load_tensorflow()
    # A person who types lines wants each answer at once; from a file, batches are faster.
    rows, plot = 1 if args.file is None and sys.stdin.isatty() else task.ROWS, _plot_path(args)
    with contextlib.redirect_stdout(sys.stderr):
        translate = task.open_translator(args.model, args.beam, args.n_best, args.max_length)
    translations = task.translate_lines(translate, task.lines_of(args.file), rows)
    for number, row in enumerate(translations, 1):
        print_result(args, _best(args, row), "\t".join(row.texts))
        if plot:
            task.plot(row, _numbered(plot, number))


def _caption(args) -> int | None:
    from kerasrnn.tasks.captioner import use as task

    if Path(args.model).is_dir():
        load_tensorflow()
    errors, plot = [], _plot_path(args)

    def refuse(error):
        if args.strict:
            raise error
        errors.append(error)
        say(f"kerasrnn: {input_error_line(error, args)}")

    with contextlib.redirect_stdout(sys.stderr):
        caption = task.open_captioner(args.model, args.beam, args.n_best, args.max_length)
    captions = task.caption_files(caption, task.images_of(args.images), refuse)
    number = 0
    for number, (path, image, row) in enumerate(captions, 1):
        data = {"image": str(path), **_best(args, row)}
        print_result(args, data, "\t".join([str(path), *row.texts]))
        if plot:
            task.plot(image, row, _numbered(plot, number))
    if not errors and not number:
        raise InputError("IMAGE", "image files, or paths on stdin", "none", "give some")
    if errors:
        say(f"kerasrnn: {len(errors)} of {len(errors) + number} images left out")
    return None if number else 2


def _best(args, row) -> dict:
    """Return text and score of the best answer, or lists of the best answers with --n-best."""
    if args.n_best is None:
        return {"text": row.texts[0], "score": row.scores[0]}
    return {"text": row.texts, "score": row.scores}


def _plot_path(args) -> Path | None:
    """Return the file for the drawing of --attention, None without the option."""
    if not args.attention:
        return None
    path = Path(args.attention)
    if path.suffix.lower() not in PLOTS:
        raise InputError("--attention", f"a name in {', '.join(PLOTS)}", path, "add .png")
    if not path.absolute().parent.is_dir():
        raise InputError("--attention", "a folder that exists", path.parent, "make it first")
    return path


def _numbered(path: Path, number: int) -> Path:
    """Return PLOT.png for number 1, PLOT-2.png for number 2 and so on."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _evaluate(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.evaluation import evaluate

    with contextlib.redirect_stdout(sys.stderr):
        files = {name: getattr(args, name) for name in options_of("evaluate")}
        values = evaluate(args.run, say, **files)
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
            agreement = f"the same text as {args.run} in {same} of {cases} cases"
            lines.append(f"{path}: quantized, {agreement}")
    print_result(args, data, "\n".join(lines))


def _demo(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.demo import demo

    with contextlib.redirect_stdout(sys.stderr):
        lines = demo(Path(args.out), args.overwrite, say)
    write_result("\n".join(lines))


def _import(packages: list[str]) -> None:
    """Import the packages of --import, whose classes a model may then hold."""
    if packages:
        load_tensorflow()
        from kerasrnn.tasks.trust import import_packages

        import_packages(packages)


COMMANDS = {
    "demo": _demo,
    "train": train,
    "settings": show_settings,
    "generate": _generate,
    "translate": _translate,
    "caption": _caption,
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
    try:
        args = make_parser().parse_args(argv)
    except InputError as error:
        say(f"kerasrnn: {error}")
        return 2
    try:
        with _raised_signals():
            _import(vars(args)["import"])
            task = args.task if args.command == "train" else ""
            check_needs(args.command, vars(args), _changed_options(args), task)
            return COMMANDS[args.command](args) or 0
    except InputError as error:
        say(f"kerasrnn: {input_error_line(error, args)}")
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
