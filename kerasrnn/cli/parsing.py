"""Parse the command line, and report errors in one line with the options as they were typed."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence

from kerasrnn.base.errors import InputError, one_line
from kerasrnn.base.suggestions import advice

# (advice of the library, option that does the same, advice for the command line)
ADVICE = (
    (', or drop them with faults="drop"', "--drop-faulty", ", or drop them with --drop-faulty"),
    ("give the translations as target, or ", "--target", "give them with --target, or "),
    ("give the translations as valid_target, or ", "--valid-target", "give --valid-target, or "),
)
# argument of a function in the library -> option of the command line
ALIASES = {
    "max_size": "vocabulary",
    "maximum length": "max_tokens",
    "length ratio": "max_length_ratio",
    "length": "window",
    "texts": "text",
}
# The messages of argparse.
CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)")
TYPE = re.compile(r"argument (\S+): expected (.+), got (.*)", re.S)
NO_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")
REQUIRED = re.compile(r"the following arguments are required: (.*)")
UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.S)


def whole(text: str) -> int:
    """Parse a whole number; for `add_argument(type=whole)`."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text}") from None


def number(text: str) -> float:
    """Parse a number; for `add_argument(type=number)`."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text}") from None


class Parser(argparse.ArgumentParser):
    """An argument parser that takes only full option names and raises `InputError`."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):
        # argparse would report an unknown option last, after other errors that it may cause. Only
        # the parser of a command checks, not the parsers above it, which see all words.
        if self.get_default("parser") is self:
            for word in itertools.takewhile(lambda word: word != "--", args):
                name = word.partition("=")[0]
                if name.startswith("--") and " " not in word and name not in self.options:
                    raise self.unknown(name)
        return super().parse_known_args(args, namespace)

    @property
    def options(self) -> list[str]:
        """All options of this command, as they are typed."""
        return ["--help", *re.findall(r"--[\w-]+", self.format_usage())]  # usage has only -h

    def unknown(self, name: str) -> InputError:
        """Return the error about an option that does not exist."""
        step = advice(name, self.options, f"see {self.prog} --help")
        return InputError(name, f"an option of {self.prog}", "one that it has not", step)

    def error(self, message: str):
        """Raise an `InputError` for a message of argparse."""
        if match := CHOICE.match(message):
            name, value, choices = match.groups()
            names, value = re.findall(r"[\w-]+", choices), value.strip("'\"")
            step = advice(value, names, "choose one of them")
            raise InputError(name, f"one of {', '.join(names)}", value, step)
        if match := TYPE.match(message):
            raise InputError(*match.groups(), "correct it")
        if match := NO_VALUE.match(message):
            raise InputError(match[1], "a value", "nothing", "add it")
        if match := REQUIRED.match(message):
            step = f"add it, see {self.prog} --help"
            raise InputError(match[1].replace(", ", " and "), "a value", "nothing", step)
        if (match := UNKNOWN.match(message)) and match[1].startswith("-"):
            raise self.unknown(match[1].split()[0])
        received = match[1] if match else message
        step = f"see {self.prog} --help"
        raise InputError("arguments", f"what {self.prog} takes", received, step)


def input_error_line(error: InputError, args: argparse.Namespace) -> str:
    """Return an error as one line, with the options as they were typed.

    Args:
        error: the error of the command or of the library.
        args: the parsed arguments of the command, with its `parser`.
    """
    options, step = args.parser.options, error.next_step
    for library, option, typed in ADVICE:
        step = step.replace(library, typed if option in options else "")
    if error.expected.startswith("one of "):
        choices = error.expected.removeprefix("one of ").split(", ")
        step = advice(str(error.received), choices, step)
    argument = _typed_argument(error.argument, args)
    return one_line(f"{argument}: expected {error.expected}, got {error.received}; {step}")


def _typed_argument(name: str, args) -> str:
    """Return an argument as the user typed it: --NAME, --set NAME, or NAME for a positional one."""
    name = name if name in vars(args) else ALIASES.get(name, name)
    option = f"--{name.replace('_', '-')}"
    if option in args.parser.options:
        assigned = [part.partition("=")[0] for group in getattr(args, "set", ()) for part in group]
        typed = getattr(args, name.replace("-", "_"), None) is not None
        return f"--set {name}" if name in assigned and not typed else option
    if f"{option}s" in args.parser.options:  # an error about one of several values
        return f"{option}s"
    return name.upper() if hasattr(args, name) or hasattr(args, f"{name}s") else name
