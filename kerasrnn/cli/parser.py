"""Define the commands of the command line and their options."""

from __future__ import annotations

from importlib.metadata import version
from typing import get_type_hints

from kerasrnn.base.choices import BEST, CHECKPOINTS, STRATEGIES
from kerasrnn.cli.parsing import Parser, number, whole
from kerasrnn.tasks.catalog import TASKS, owners
from kerasrnn.tasks.catalog import options_of as options_of_all
from kerasrnn.tasks.settings import as_option, said_of
from kerasrnn.tasks.task import Option, Task

KINDS = {int: "N", float: "X", bool: "true|false", str: "NAME", int | str: "N|NAME"}
ABOUT = "Train, use, measure and export recurrent sequence models."


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


def _add(parser, option: Option, text: str | None = None, required: bool = False) -> None:
    """Add an option of a task, with other help where `text` is given."""
    if option.positional:
        nargs = "*" if option.many else "?"
        parser.add_argument(option.name, nargs=nargs, metavar=option.metavar, help=option.help)
        return
    told = {"help": text or option.help, "default": option.default, "dest": option.field}
    if option.value is not None:
        parser.add_argument(option.typed, action="store_const", const=option.value, **told)
        return
    if option.choices and option.default:
        told["help"] += f" ({option.default})"
    if option.again:
        told["action"] = "append"
    else:
        told |= {"type": _reader(option), "nargs": "+" if option.many else None}
    values = {"choices": option.choices} if option.choices else {"metavar": option.metavar}
    parser.add_argument(option.typed, required=required, **values, **told)


def _reader(option: Option):
    """The function that reads a value of an option."""
    if option.none:
        return lambda typed: None if typed == option.none else typed
    return {str: str, int: whole, float: number}[option.kind]


def _train_parsers(commands) -> dict[str, Parser]:
    """Add the command train with a command for each task, and return their parsers."""
    train = commands.add_parser("train", help="train a model")
    names = train.add_subparsers(dest="task", required=True, metavar="TASK")
    for task in TASKS.values():
        parser = _command(names, task.name, task.about)
        for option in task.options_of("train"):
            _add(parser, option, required=option.required)
        _training_options(parser, task)
    return {f"train {name}": parser for name, parser in names.choices.items()}


def _training_options(parser, task: Task) -> None:
    """Add the options that the training of every task has."""
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder")
    _preset_option(parser, task)
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="of all that is drawn (0)"
    )
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
    _setting_options(parser, task)


def _preset_option(parser, task: Task) -> None:
    """Add the option that names the settings to begin with."""
    names = "|".join(task.presets)
    text = "the settings to begin with (small)"
    parser.add_argument("--preset", default="small", metavar=names, help=text)


def _settings_parser(commands) -> None:
    """Add the command settings with a command for each task."""
    settings = commands.add_parser("settings", help="say what training can be told")
    names = settings.add_subparsers(dest="task", required=True, metavar="TASK")
    for task in TASKS.values():
        parser = _command(names, task.name, f"the settings of {task.noun}")
        _preset_option(parser, task)


def _setting_options(parser, task: Task) -> None:
    """Add an option for each field of a task's settings."""
    text = "with their values in the preset small; also --set NAME=VALUE …"
    group = parser.add_argument_group("settings", text)
    types, preset = get_type_hints(task.settings), task.presets["small"]
    for name, said in said_of(task.settings).items():
        default = getattr(preset, name)
        default = str(default).lower() if isinstance(default, bool) else default
        # Names that stand in a table of TensorFlow's are checked when it is loaded.
        known = {} if isinstance(said.choices, str) else {"choices": said.choices}
        values = known if said.choices and known else {"metavar": KINDS[types[name]]}
        # "append" keeps every value, so that two different ones can be refused.
        group.add_argument(
            as_option(name), action="append", help=f"{said.help} ({default})", **values
        )
    group.add_argument("--set", nargs="+", action="append", default=[], metavar="NAME=VALUE")


def _search_options(parser, beam_help: str) -> None:
    """Add the options of a beam search."""
    parser.add_argument("--beam", type=whole, metavar="K", help=beam_help)
    parser.add_argument("--n-best", type=whole, metavar="N", help="answers to each input (1)")
    parser.add_argument("--max-length", type=whole, metavar="T", help="most tokens written")


def _measured_options(parser, command: str) -> None:
    """Add the options that name the data to measure a model on."""
    for name, option in options_of_all(command).items():
        nouns = " or ".join(task.noun for task in owners(name, command))
        text = option.help if name not in options_of_all("train") else "what it validated on"
        _add(parser, option, f"of {nouns}: {text}")


def _checkpoint_option(parser) -> None:
    """Add the option that chooses the best or the last model of a run."""
    text = "the best model, or the last one, where training stands (best)"
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, default=BEST, help=text)


def _use_parsers(commands) -> None:
    """Add the commands that use a model, one for each task."""
    for task in TASKS.values():
        parser = _command(commands, task.verb, task.verb_about)
        parser.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
        for option in task.options_of(task.verb):
            _add(parser, option)
        if task.searches:
            _search_options(parser, "width of the search (as trained)")
        text = "write all answers to a table, or as JSON lines, in place of stdout"
        parser.add_argument("--out", metavar="FILE.csv|FILE.jsonl", help=text)


def _export_parser(commands) -> None:
    """Add the command export."""
    export = _command(commands, "export", "write ONNX, SavedModel or a web page, checked")
    export.add_argument("run", metavar="RUN")
    text = "all is onnx and saved_model, web a page for any static server (all)"
    choices = ("onnx", "saved_model", "all", "web")
    export.add_argument("--format", choices=choices, default="all", help=text)
    text = "beside model.onnx also encode.onnx and step.onnx, for use token by token"
    export.add_argument("--streaming", action="store_true", help=text)
    _search_options(export, "of what searches: width of the search (as trained)")
    text = "a folder that does not exist yet"
    export.add_argument("--out", required=True, metavar="DIR", help=text)
    text = "what the page runs on: an npm package to copy, or an address (a public one)"
    export.add_argument("--onnxruntime-web", metavar="PATH|URL", help=text)
    text = "also model.KIND.onnx, smaller, measured against model.onnx on what it validated on or:"
    export.add_argument("--quantize", nargs="+", choices=("int8", "fp16"), default=[], help=text)
    _measured_options(export, "export")
    _checkpoint_option(export)
    export.add_argument("--license", metavar="TEXT", help="of the model; the artifacts say it")


def make_parser() -> Parser:
    """Return the parser of the whole command line.

    Its attribute `commands` has the parser of each command by name. The parsed arguments have
    `command`, the name of the command, and `task` after `train`.
    """
    parser = Parser(prog="kerasrnn", description=ABOUT)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", "train, export and run on built-in data", machine=False)
    parser.add_argument("--version", action="version", version=f"kerasrnn {version('kerasrnn')}")
    text = "one of " + ", ".join(TASKS) + " (all that have one)"
    demo.add_argument("task", nargs="?", choices=TASKS, metavar="TASK", help=text)
    demo.add_argument("--out", default="demo", help="folder to write (demo)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier demo")

    training = _train_parsers(commands)
    _settings_parser(commands)

    _use_parsers(commands)

    evaluate = _command(commands, "evaluate", "measure a run's model, or an exported one")
    evaluate.add_argument("model", metavar="RUN|FILE.onnx|SAVED_MODEL")
    _measured_options(evaluate, "evaluate")

    _export_parser(commands)

    verify = _command(commands, "verify", "compare an export with its run")
    verify.add_argument("run", metavar="RUN")
    verify.add_argument("export", metavar="DIR|FILE.onnx|SAVED_MODEL")
    _checkpoint_option(verify)
    others = {name: p for name, p in commands.choices.items() if name not in ("train", "settings")}
    parser.commands = training | others
    return parser
