"""The command line: parse, wire, print. Results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kerasrnn.errors import InputError
from kerasrnn.export.verify import VerificationError

LEVELS = ("char", "word", "subword")
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

            tf.config.list_logical_devices()
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _train_lm(args) -> int | None:
    load_tensorflow()
    from kerasrnn.tasks import language_model as task

    settings = _settings(args, task)
    job = task.Job(args.text, args.level, settings, args.seed, args.out, args.overwrite)
    return _train(args, task, job)


def _train_translator(args) -> int | None:
    load_tensorflow()
    from kerasrnn.tasks import translation as task

    names = ("source", "target", "level", "seed", "out", "overwrite")
    options = {name: getattr(args, name) for name in (*names, "valid_source", "valid_target")}
    faults = "drop" if args.drop_faulty else "refuse"
    job = task.Job(settings=_settings(args, task), faults=faults, **options)
    return _train(args, task, job)


def _settings(args, task):
    """The preset with the changes that the command line asks for."""
    from kerasrnn.tasks.settings import changed

    if args.preset not in task.PRESETS:
        known = ", ".join(task.PRESETS)
        raise InputError("--preset", f"one of {known}", args.preset, "choose one of them")
    assignments = [part for group in args.set for part in group]
    for name in ("epochs", "batch_size"):
        if getattr(args, name) is not None:
            assignments.append(f"{name}={getattr(args, name)}")
    return changed(task.PRESETS[args.preset], assignments)


def _train(args, task, job) -> int | None:
    from kerasrnn.runs import Interrupted

    with contextlib.redirect_stdout(sys.stderr):
        try:
            best = task.train(job, say, verbose=1 if sys.stderr.isatty() else 2)
        except Interrupted as stop:
            without = " without --overwrite" if args.overwrite else ""
            say(f"kerasrnn: {stop}{without}")
            return stop.exit_code
    _print(args, {"run": args.out, **best}, f"{args.out}: best {_figures(best)}")


def _figures(row: dict) -> str:
    return ", ".join(f"{name} {v if isinstance(v, str) else f'{v:.6g}'}" for name, v in row.items())


def _print(args, data, text: str) -> None:
    print(json.dumps(data, ensure_ascii=False) if args.json else text)


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
    rows = 1 if args.file is None and sys.stdin.isatty() else task.ROWS
    with contextlib.redirect_stdout(sys.stderr):
        translate = task.open_translator(args.model, args.beam, args.n_best, args.max_length)
    found = task.translate_lines(translate, task.lines_of(args.file), rows)
    for number, row in enumerate(found, 1):
        texts = row.texts[0] if args.n_best is None else row.texts
        _print(args, {"text": texts, "score": row.scores}, "\t".join(row.texts))
        if args.attention:
            task.plot(row, _numbered(Path(args.attention), number))


def _numbered(path: Path, number: int) -> Path:
    """PLOT.png for the first, PLOT-2.png for the second …"""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _evaluate(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.evaluation import evaluate

    with contextlib.redirect_stdout(sys.stderr):
        values = evaluate(args.run, text=args.text, source=args.source, target=args.target)
    _print(args, values, _figures(values))


def _export(args) -> None:
    load_tensorflow()
    from kerasrnn.export import FORMATS
    from kerasrnn.tasks.exporting import export_run

    formats = FORMATS if args.format == "all" else (args.format,)
    search = {name: getattr(args, name) for name in ("beam", "n_best", "max_length")}
    with contextlib.redirect_stdout(sys.stderr):
        written = export_run(args.run, args.out, formats, **search)
    _print(args, {"written": [str(p) for p in written]}, "\n".join(str(p) for p in written))


def _demo(args) -> None:
    load_tensorflow()
    from kerasrnn.tasks.demo import demo

    with contextlib.redirect_stdout(sys.stderr):
        lines = demo(Path(args.out), args.overwrite, say)
    print("\n".join(lines))


def _generation_options(parser) -> None:
    parser.add_argument("--prompt", action="append", help="text to go on with; may be given again")
    parser.add_argument("--length", type=int, default=200, help="most tokens to add (200)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest (1.0)"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, help="draw from the k likeliest; 0: all (0)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the likeliest share (1.0)"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same text")


def _command(parent, name, run, text, machine=True):
    """A subcommand that `run` carries out."""
    made = parent.add_parser(name, help=text, description=text)
    made.set_defaults(function=run)
    if machine:
        made.add_argument("--json", action="store_true", help="print JSON")
    return made


def _train_parsers(commands) -> None:
    train = commands.add_parser("train", help="train a model")
    tasks = train.add_subparsers(dest="task", required=True, metavar="TASK")
    lm = _command(tasks, "lm", _train_lm, "a language model from text files")
    lm.add_argument("--text", nargs="+", required=True, metavar="FILE", help="plain or gzip UTF-8")
    _training_options(lm, "char", "tiny, small or shakespeare (small)")
    translator = _command(
        tasks, "translator", _train_translator, "a translator from aligned text files"
    )
    for side, required in (("source", True), ("target", False)):
        text = "a line for each sentence" if required else "without it --source is a TSV file"
        translator.add_argument(f"--{side}", required=required, metavar="FILE", help=text)
        translator.add_argument(f"--valid-{side}", metavar="FILE", help="default: some held out")
    translator.add_argument(
        "--drop-faulty", action="store_true", help="drop and count lines that cannot be used"
    )
    _training_options(translator, "subword", "tiny, small or multi30k (small)")


def _training_options(parser, level: str, presets: str) -> None:
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder")
    parser.add_argument("--level", choices=LEVELS, default=level, help=f"what a token is ({level})")
    parser.add_argument("--preset", default="small", help=presets)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where a run stands")


def _search_options(parser, beam_help: str) -> None:
    parser.add_argument("--beam", type=int, metavar="K", help=beam_help)
    parser.add_argument("--n-best", type=int, metavar="N", help="translations of each sentence (1)")
    parser.add_argument("--max-length", type=int, metavar="T", help="most tokens written")


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(prog="kerasrnn", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(
        commands, "demo", _demo, "train, export and run on built-in data", machine=False
    )
    parser.add_argument("--version", action="version", version=f"kerasrnn {version('kerasrnn')}")
    demo.add_argument("--out", default="demo", help="folder to write (demo)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier demo")

    _train_parsers(commands)

    generate = _command(commands, "generate", _generate, "go on with a text")
    generate.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    _generation_options(generate)

    translate = _command(commands, "translate", _translate, "translate line by line")
    translate.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    translate.add_argument("file", nargs="?", metavar="FILE", help="plain or gzip; default: stdin")
    _search_options(translate, "width of the search (as trained)")
    translate.add_argument("--attention", metavar="PLOT.png", help="draw where each line looked")

    evaluate = _command(commands, "evaluate", _evaluate, "measure a run's model")
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--text", nargs="+", metavar="FILE", help="default: what it validated on")
    for side in ("source", "target"):
        evaluate.add_argument(f"--{side}", metavar="FILE", help="of a translator, likewise")

    export = _command(commands, "export", _export, "write ONNX and SavedModel, checked")
    export.add_argument("run", metavar="RUN")
    export.add_argument("--format", choices=("onnx", "saved_model", "all"), default="all")
    _search_options(export, "of a translator: width of the search (as trained)")
    export.add_argument(
        "--out", required=True, metavar="DIR", help="a folder that does not exist yet"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 2 for what the user got wrong, 130 when stopped."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    args = make_parser().parse_args(argv)
    # An exit, not a death: what stands half-made beside a folder is cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return args.function(args) or 0
    except InputError as error:
        say(f"kerasrnn: {error}")
        return 2
    except KeyboardInterrupt:
        say("kerasrnn: stopped")
        return STOPPED
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, VerificationError) as error:
        say(f"kerasrnn: {' '.join(str(error).split())}")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
