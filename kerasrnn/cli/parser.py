"""Define the commands of the command line and their options."""

from __future__ import annotations

from importlib.metadata import version
from typing import get_type_hints

from kerasrnn.base.choices import BEST, CHECKPOINTS, LEVELS, STRATEGIES
from kerasrnn.cli.parsing import Parser, number, whole
from kerasrnn.tasks.hyperparameters import PRECISIONS, PRESETS
from kerasrnn.tasks.needs import EVALUATED

ABOUT = "Train, use, measure and export recurrent sequence models."
SPLITS = ("train", "val", "test")


def _generation_options(parser) -> None:
    """Add the options of drawing text from a language model."""
    parser.add_argument("--prompt", action="append", help="text to go on with; may be given again")
    parser.add_argument("--length", type=whole, default=200, help="most tokens to add (200)")
    parser.add_argument(
        "--temperature", type=number, default=1.0, help="0 takes the likeliest (1.0)"
    )
    parser.add_argument(
        "--top-k", type=whole, default=0, help="draw from the k likeliest; 0: all (0)"
    )
    parser.add_argument(
        "--top-p", type=number, default=1.0, help="draw from the likeliest share (1.0)"
    )
    parser.add_argument("--seed", type=whole, help="the same seed gives the same text")


def _command(parent, name: str, text: str, machine: bool = True):
    """Add the parser of a command to `parent`; `machine` adds the option --json."""
    parser = parent.add_parser(name, help=text, description=text)
    import_help = "a package whose classes a model may hold; may be given again"
    parser.add_argument(
        "--import", action="append", default=[], metavar="PACKAGE", help=import_help
    )
    if machine:
        parser.add_argument("--json", action="store_true", help="print JSON")
    # The parsed arguments name their parser: error messages need the options of the command.
    parser.set_defaults(parser=parser)
    return parser


def _train_parsers(commands) -> None:
    """Add the command train with a command for each task."""
    train = commands.add_parser("train", help="train a model")
    tasks = train.add_subparsers(dest="task", required=True, metavar="TASK")
    lm = _command(tasks, "lm", "a language model from text files")
    lm.add_argument("--text", nargs="+", required=True, metavar="FILE", help="plain or gzip UTF-8")
    text = "default: the last part of the text (valid_share)"
    lm.add_argument("--valid-text", nargs="+", metavar="FILE", help=text)
    text = "drop and count lines that are not UTF-8"
    lm.add_argument("--drop-faulty", action="store_true", help=text)
    _training_options(lm, "lm", "char", "tiny, small or shakespeare (small)")
    translator = _command(tasks, "translator", "a translator from aligned text files")
    for side, required in (("source", True), ("target", False)):
        text = "a line for each sentence" if required else "without it --source is a TSV file"
        translator.add_argument(f"--{side}", required=required, metavar="FILE", help=text)
        translator.add_argument(f"--valid-{side}", metavar="FILE", help="default: some held out")
    translator.add_argument(
        "--drop-faulty", action="store_true", help="drop and count lines that cannot be used"
    )
    _training_options(translator, "translator", "subword", "tiny, small or multi30k (small)")
    _captioner_parser(tasks)


def _captioner_parser(tasks) -> None:
    """Add the command train captioner."""
    captioner = _command(tasks, "captioner", "a captioner from images and captions")
    captioner.add_argument("--images", required=True, metavar="DIR", help="JPEG and PNG files")
    formats = "CSV image,caption; Flickr8k's tokens; Karpathy's or COCO's JSON"
    captioner.add_argument("--captions", required=True, metavar="FILE", help=formats)
    captioner.add_argument("--valid-captions", metavar="FILE", help="default: the split, or some")
    text = "of the network: a file; imagenet, which Keras may download; none (none)"
    choices = "FILE|imagenet|none"
    captioner.add_argument("--cnn-weights", default="none", metavar=choices, help=text)
    captioner.add_argument("--cache", metavar="DIR", help="of images and features (RUN/images)")
    captioner.add_argument("--strict", action="store_true", help="stop at an image that is faulty")
    _training_options(captioner, "captioner", "word", "tiny, small or flickr8k (small)")


def _training_options(parser, task: str, level: str, presets: str) -> None:
    """Add the options that the training of every task has; `level` is the default of --level."""
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder")
    parser.add_argument("--level", choices=LEVELS, default=level, help=f"what a token is ({level})")
    parser.add_argument("--preset", default="small", help=presets)
    parser.add_argument("--seed", type=whole, default=0)
    text = "begin a new run with the tokenizer and the weights of this one"
    parser.add_argument("--start", metavar="RUN", help=text)
    parser.add_argument("--overwrite", action="store_true", help="begin anew where a run stands")
    text = "auto: the workers that TF_CONFIG names, or all GPUs (auto)"
    parser.add_argument("--strategy", choices=STRATEGIES, default="auto", help=text)
    parser.add_argument(
        "--keep-checkpoints", type=whole, default=2, metavar="N", help="how many (2)"
    )
    text = "dispatcher of a tf.data service whose workers read the training data (this process)"
    parser.add_argument("--data-service", metavar="HOST:PORT", help=text)
    _setting_options(parser, PRESETS[task]["small"])


def _setting_options(parser, small) -> None:
    """Add an option for each field of a task's settings; `small` is the preset of that name."""
    text = "of the preset, here that of small; also --set NAME=VALUE …"
    group = parser.add_argument_group("settings", text)
    kinds = {int: "N", float: "X", bool: "true|false", str: "NAME", int | str: "N|NAME"}
    for name, kind in get_type_hints(type(small)).items():
        option, value = f"--{name.replace('_', '-')}", getattr(small, name)
        default = str(value).lower() if kind is bool else value
        values = {"choices": PRECISIONS} if name == "precision" else {"metavar": kinds[kind]}
        # "append" keeps every value, so that `changed` can refuse two different ones.
        group.add_argument(option, action="append", help=f"({default})", **values)
    group.add_argument("--set", nargs="+", action="append", default=[], metavar="NAME=VALUE")


def _search_options(parser, beam_help: str) -> None:
    """Add the options of a beam search."""
    parser.add_argument("--beam", type=whole, metavar="K", help=beam_help)
    parser.add_argument("--n-best", type=whole, metavar="N", help="answers to each input (1)")
    parser.add_argument("--max-length", type=whole, metavar="T", help="most tokens written")


def _measured_options(parser) -> None:
    """Add the options that name the data to measure a model on."""
    parser.add_argument("--text", nargs="+", metavar="FILE", help="default: what it validated on")
    for name, task in EVALUATED.items():
        kind = "DIR" if name == "images" else "FILE"
        parser.add_argument(f"--{name}", metavar=kind, help=f"of a {task}, likewise")
    text = "of a captioner: of a file of captions that names splits (test, where it has one)"
    parser.add_argument("--split", choices=SPLITS, help=text)


def _checkpoint_option(parser) -> None:
    """Add the option that chooses the best or the last model of a run."""
    text = "the best model, or the last one, where training stands (best)"
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default=BEST, help=text)


def _use_parsers(commands) -> None:
    """Add the commands that use a model: generate, translate and caption."""
    generate = _command(commands, "generate", "go on with a text")
    generate.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    _generation_options(generate)

    translate = _command(commands, "translate", "translate line by line")
    translate.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    translate.add_argument("file", nargs="?", metavar="FILE", help="plain or gzip; default: stdin")
    _search_options(translate, "width of the search (as trained)")
    translate.add_argument("--attention", metavar="PLOT.png", help="draw where each line looked")

    caption = _command(commands, "caption", "say what is on images")
    caption.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    text = "files or folders; - or none: paths on stdin, one a line"
    caption.add_argument("images", nargs="*", metavar="IMAGE", help=text)
    _search_options(caption, "width of the search (as trained)")
    caption.add_argument("--attention", metavar="PLOT.png", help="draw where each word looked")
    caption.add_argument("--strict", action="store_true", help="stop at an image it cannot use")


def _export_parser(commands) -> None:
    """Add the command export."""
    export = _command(commands, "export", "write ONNX, SavedModel or a web page, checked")
    export.add_argument("run", metavar="RUN")
    text = "all is onnx and saved_model, web a page for any static server (all)"
    choices = ("onnx", "saved_model", "all", "web")
    export.add_argument("--format", choices=choices, default="all", help=text)
    text = "beside model.onnx also encode.onnx and step.onnx, for use token by token"
    export.add_argument("--streaming", action="store_true", help=text)
    _search_options(export, "of a translator or captioner: width of the search (as trained)")
    text = "a folder that does not exist yet"
    export.add_argument("--out", required=True, metavar="DIR", help=text)
    text = "what the page runs on: an npm package to copy, or an address (a public one)"
    export.add_argument("--onnxruntime-web", metavar="PATH|URL", help=text)
    text = "also model.KIND.onnx, smaller, measured against model.onnx on what it validated on or:"
    export.add_argument("--quantize", nargs="+", choices=("int8", "fp16"), default=[], help=text)
    _measured_options(export)
    _checkpoint_option(export)
    export.add_argument("--license", metavar="TEXT", help="of the model; the artifacts say it")


def make_parser() -> Parser:
    """Return the parser of the whole command line.

    The parsed arguments have `command`, the name of the command, and `task` after `train`.
    """
    parser = Parser(prog="kerasrnn", description=ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", "train, export and run on built-in data", machine=False)
    parser.add_argument("--version", action="version", version=f"kerasrnn {version('kerasrnn')}")
    demo.add_argument("--out", default="demo", help="folder to write (demo)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier demo")

    _train_parsers(commands)

    _use_parsers(commands)

    evaluate = _command(commands, "evaluate", "measure a run's model")
    evaluate.add_argument("run", metavar="RUN")
    _measured_options(evaluate)
    text = "hard attention of a captioner: draw places, not the likeliest"
    evaluate.add_argument("--drawn", action="store_true", help=text)

    _export_parser(commands)

    verify = _command(commands, "verify", "compare an export with its run")
    verify.add_argument("run", metavar="RUN")
    verify.add_argument("export", metavar="DIR|FILE.onnx|SAVED_MODEL")
    _checkpoint_option(verify)
    return parser
