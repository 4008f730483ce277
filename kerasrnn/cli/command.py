"""The command line: parse, wire, print. Results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kerasrnn.base.ending import end
from kerasrnn.base.errors import InputError
from kerasrnn.cli.parser import make_parser
from kerasrnn.cli.parsing import as_typed
from kerasrnn.export.verify import VerificationError
from kerasrnn.tasks.hyperparameters import PRESETS
from kerasrnn.tasks.needs import EVALUATED, check_needs
from kerasrnn.tasks.settings import changed

PLOTS = (".png", ".pdf", ".svg")
FAILED = 1  # the disk, or an export that does not do what the model does
STOPPED = 130  # the shell's code for Ctrl-C
TERMINATED = 143  # and for SIGTERM, outside training


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load_tensorflow() -> None:
    """Import TensorFlow without what its libraries write to stderr before any log level holds."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow as tf

            if "TF_CONFIG" not in os.environ:  # workers meet before TensorFlow has devices
                tf.config.list_logical_devices()
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _train_lm(args) -> int | None:
    settings = _settings(args)
    load_tensorflow()
    from kerasrnn.tasks import language_model as task

    names = ("text", "valid_text", "level", "seed", "out")
    options = {name: getattr(args, name) for name in names} | _common(args)
    job = task.Job(settings=settings, faults=_faults(args), **options)
    return _train(args, task, job)


def _train_translator(args) -> int | None:
    settings = _settings(args)
    load_tensorflow()
    from kerasrnn.tasks import translation as task

    names = ("source", "target", "level", "seed", "out", "valid_source", "valid_target")
    options = {name: getattr(args, name) for name in names} | _common(args)
    job = task.Job(settings=settings, faults=_faults(args), **options)
    return _train(args, task, job)


def _train_captioner(args) -> int | None:
    settings = _settings(args)
    load_tensorflow()
    from kerasrnn.tasks import captioning as task

    names = ("images", "captions", "valid_captions", "cache", "strict", "level", "seed", "out")
    options = {name: getattr(args, name) for name in names} | _common(args)
    weights = None if args.cnn_weights == "none" else args.cnn_weights
    job = task.Job(settings=settings, cnn_weights=weights, **options)
    return _train(args, task, job)


def _faults(args) -> str:
    """What becomes of lines that cannot be used."""
    return "drop" if args.drop_faulty else "refuse"


def _common(args) -> dict:
    """How any job is run."""
    names = ("overwrite", "strategy", "keep_checkpoints", "data_service", "start")
    return {name: getattr(args, name) for name in names}


def _settings(args):
    """The preset with the changes that the command line asks for."""
    presets = PRESETS[args.task]
    if args.preset not in presets:
        known = ", ".join(presets)
        raise InputError("--preset", f"one of {known}", args.preset, "choose one of them")
    preset = presets[args.preset]
    assignments = [part for group in args.set for part in group]
    for field in dataclasses.fields(preset):
        assignments += [f"{field.name}={value}" for value in getattr(args, field.name) or ()]
    settings = changed(preset, assignments)
    given = [assignment.partition("=")[0] for assignment in assignments]
    check_needs("settings", vars(settings), given)
    return settings


def _train(args, task, job) -> int | None:
    from kerasrnn.distribution.strategies import WorkerLost
    from kerasrnn.training.interruption import Interrupted

    with contextlib.redirect_stdout(sys.stderr):
        try:
            best = task.train(job, say, verbose=1 if sys.stderr.isatty() else 2)
        except Interrupted as stop:
            without = " without --overwrite" if args.overwrite else ""
            say(f"kerasrnn: {stop}{without}")
            return stop.exit_code
        except WorkerLost as lost:
            say(f"kerasrnn: {lost}")
            return FAILED
    _print(args, {"run": args.out, **best}, f"{args.out}: best {_figures(best)}")


def _figures(row: dict) -> str:
    return ", ".join(f"{name} {v if isinstance(v, str) else f'{v:.6g}'}" for name, v in row.items())


class ReaderLeft(Exception):
    """Nobody reads our results any more, as after `| head`."""


def _write(text: str) -> None:
    """A result, on stdout."""
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        raise ReaderLeft from error


def _print(args, data, text: str) -> None:
    _write(json.dumps(data, ensure_ascii=False) if args.json else text)


def _generate(args) -> None:
    from kerasrnn.tasks.generation import generate

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
        _print(args, {"text": text}, text)


def _translate(args) -> None:
    from kerasrnn.tasks import translate as task

    if Path(args.model).is_dir():
        load_tensorflow()
    rows, plot = 1 if args.file is None and sys.stdin.isatty() else task.ROWS, _plot(args)
    with contextlib.redirect_stdout(sys.stderr):
        translate = task.open_translator(args.model, args.beam, args.n_best, args.max_length)
    found = task.translate_lines(translate, task.lines_of(args.file), rows)
    for number, row in enumerate(found, 1):
        _print(args, _best(args, row), "\t".join(row.texts))
        if plot:
            task.plot(row, _numbered(plot, number))


def _caption(args) -> int | None:
    from kerasrnn.tasks import caption as task

    if Path(args.model).is_dir():
        load_tensorflow()
    refused, plot = [], _plot(args)

    def refuse(error):
        if args.strict:
            raise error
        refused.append(error)
        say(f"kerasrnn: {as_typed(error, args)}")

    with contextlib.redirect_stdout(sys.stderr):
        caption = task.open_captioner(args.model, args.beam, args.n_best, args.max_length)
    found = task.caption_files(caption, task.images_of(args.images), refuse)
    number = 0
    for number, (path, image, row) in enumerate(found, 1):
        data = {"image": str(path), **_best(args, row)}
        _print(args, data, "\t".join([str(path), *row.texts]))
        if plot:
            task.plot(image, row, _numbered(plot, number))
    if not refused and not number:
        raise InputError("IMAGE", "image files, or paths on stdin", "none", "give some")
    if refused:
        say(f"kerasrnn: {len(refused)} of {len(refused) + number} images left out")
    return None if number else 2


def _best(args, row) -> dict:
    """Text and score of the best answer; lists of them where --n-best asks for several."""
    if args.n_best is None:
        return {"text": row.texts[0], "score": row.scores[0]}
    return {"text": row.texts, "score": row.scores}


def _plot(args) -> Path | None:
    """Where --attention is drawn."""
    if not args.attention:
        return None
    path = Path(args.attention)
    if path.suffix.lower() not in PLOTS:
        raise InputError("--attention", f"a name in {', '.join(PLOTS)}", path, "add .png")
    if not path.absolute().parent.is_dir():
        raise InputError("--attention", "a folder that exists", path.parent, "make it first")
    return path


def _numbered(path: Path, number: int) -> Path:
    """PLOT.png for the first, PLOT-2.png for the second …"""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _evaluate(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.evaluation import evaluate

    with contextlib.redirect_stdout(sys.stderr):
        files = {name: getattr(args, name) for name in ("text", *EVALUATED, "split")}
        values = evaluate(args.run, say, drawn=args.drawn, **files)
    _print(args, values, _figures(values))


def _export(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.exporting import export_run, formats_of, in_words, measured

    formats = formats_of(args.format, args.streaming)
    names = ("beam", "n_best", "max_length", "license", "onnxruntime_web", "checkpoint")
    options = {name: getattr(args, name) for name in names}
    files = {name: getattr(args, name) for name in ("text", *EVALUATED, "split")}
    with contextlib.redirect_stdout(sys.stderr):
        written = export_run(
            args.run, args.out, formats, quantized=args.quantize, files=files, say=say, **options
        )
    data, found = {"written": [str(p) for p in written]}, measured(written)
    for path, figures in found.items():
        say(f"{path}: {in_words(figures)}")
    _print(args, data | ({"measured": found} if found else {}), "\n".join(data["written"]))


def _verify(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.exporting import verify_run

    with contextlib.redirect_stdout(sys.stderr):
        found = verify_run(args.run, args.export, args.checkpoint)
    data, lines = {"same": [], "quantized": {}}, []
    for path, count in found.items():
        if count is None:
            data["same"].append(str(path))
            lines.append(f"{path}: does what {args.run} does")
        else:
            data["quantized"][str(path)] = {"same": count[0], "cases": count[1]}
            said = f"the same text as {args.run} in {count[0]} of {count[1]} cases"
            lines.append(f"{path}: quantized, {said}")
    _print(args, data, "\n".join(lines))


def _demo(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.demo import demo

    with contextlib.redirect_stdout(sys.stderr):
        lines = demo(Path(args.out), args.overwrite, say)
    _write("\n".join(lines))


def _import(packages: list[str]) -> None:
    """Packages whose classes a model may hold."""
    if packages:
        load_tensorflow()
        from kerasrnn.tasks.trust import import_packages

        import_packages(packages)


COMMANDS = {
    "demo": _demo,
    "train lm": _train_lm,
    "train translator": _train_translator,
    "train captioner": _train_captioner,
    "generate": _generate,
    "translate": _translate,
    "caption": _caption,
    "evaluate": _evaluate,
    "export": _export,
    "verify": _verify,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 2 for what the user got wrong, 130 when stopped."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        args = make_parser().parse_args(argv)
    except InputError as error:
        say(f"kerasrnn: {error}")
        return 2
    # An exit, not a death: what stands half-made beside a folder is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        _import(vars(args)["import"])
        name = f"train {args.task}" if args.command == "train" else args.command
        check_needs(name, vars(args), _given(args))
        return COMMANDS[name](args) or 0
    except InputError as error:
        say(f"kerasrnn: {as_typed(error, args)}")
        return 2
    except KeyboardInterrupt:
        say("kerasrnn: stopped")
        return STOPPED
    except ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, VerificationError) as error:
        say(f"kerasrnn: {_fault(error)}")
        return FAILED


def _given(args) -> list[str]:
    """The options that say something else than what holds without them."""
    return [name for name, value in vars(args).items() if value != args.parser.get_default(name)]


def _fault(error: Exception) -> str:
    """What happened, and to which file, in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    full = isinstance(error, OSError) and os.strerror(errno.ENOSPC) in text
    return " ".join(text.split()) + ("; make room and give the same command again" if full else "")


def program() -> None:
    """The installed command."""
    end(main())


if __name__ == "__main__":
    program()
