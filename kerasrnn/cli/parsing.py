"""The parser of the command line, and its errors: one line, in the words that were typed."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence

from kerasrnn.base.errors import InputError, shown
from kerasrnn.base.suggestions import advised

# what a reader of files advises -> the option it means, and how that is said on the command line
ADVICE = (
    (', or drop them with faults="drop"', "--drop-faulty", ", or drop them with --drop-faulty"),
    ("give the translations as target, or ", "--target", "give them with --target, or "),
)
# what an argument deep inside is called on the command line
ALIASES = {
    "max_size": "vocabulary",
    "maximum length": "max_tokens",
    "length ratio": "max_length_ratio",
    "length": "window",
    "texts": "text",
}
CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)")
TYPE = re.compile(r"argument (\S+): expected (.+), got (.*)", re.S)
NO_VALUE = re.compile(r"argument (\S+): expected (?:one|at least one) argument")
REQUIRED = re.compile(r"the following arguments are required: (.*)")
UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.S)


def whole(text: str) -> int:
    """A whole number, as an argument's `type`."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text}") from None


def number(text: str) -> float:
    """A number, as an argument's `type`."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text}") from None


class Parser(argparse.ArgumentParser):
    """Options are written in full; what is wrong is an `InputError`."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace=None):
        if self.get_default("parser") is self:  # a command, behind which no other stands
            for word in itertools.takewhile(lambda word: word != "--", args):
                name = word.partition("=")[0]
                if name.startswith("--") and " " not in word and name not in self.options:
                    raise self.unknown(name)
        return super().parse_known_args(args, namespace)

    @property
    def options(self) -> list[str]:
        """Every option, as it is typed."""
        return ["--help", *re.findall(r"--[\w-]+", self.format_usage())]  # usage says -h

    def unknown(self, name: str) -> InputError:
        """What is raised about an option that there is not."""
        step = advised(name, self.options, f"see {self.prog} --help")
        return InputError(name, f"an option of {self.prog}", "one that it has not", step)

    def error(self, message: str):
        """Raise what argparse found wrong (InputError)."""
        if found := CHOICE.match(message):
            name, value, choices = found.groups()
            known, value = re.findall(r"[\w-]+", choices), value.strip("'\"")
            step = advised(value, known, "choose one of them")
            raise InputError(name, f"one of {', '.join(known)}", value, step)
        if found := TYPE.match(message):
            raise InputError(*found.groups(), "correct it")
        if found := NO_VALUE.match(message):
            raise InputError(found[1], "a value", "nothing", "add it")
        if found := REQUIRED.match(message):
            step = f"add it, see {self.prog} --help"
            raise InputError(found[1].replace(", ", " and "), "a value", "nothing", step)
        if (found := UNKNOWN.match(message)) and found[1].startswith("-"):
            raise self.unknown(found[1].split()[0])
        received = found[1] if found else message
        step = f"see {self.prog} --help"
        raise InputError("arguments", f"what {self.prog} takes", received, step)


def as_typed(error: InputError, args: argparse.Namespace) -> str:
    """The error in one line, with the options as they were typed.

    Args:
        args: what the command was given, its `parser` among it.
    """
    options, step = args.parser.options, error.next_step
    for library, option, typed in ADVICE:
        step = step.replace(library, typed if option in options else "")
    if error.expected.startswith("one of "):
        known = error.expected.removeprefix("one of ").split(", ")
        step = advised(str(error.received), known, step)
    argument = _argument(error.argument, args)
    return shown(f"{argument}: expected {error.expected}, got {error.received}; {step}")


def _argument(name: str, args) -> str:
    """How an argument is typed: as an option, behind --set, or by its place."""
    name = name if name in vars(args) else ALIASES.get(name, name)
    option = f"--{name.replace('_', '-')}"
    if option in args.parser.options:
        assigned = [part.partition("=")[0] for group in getattr(args, "set", ()) for part in group]
        typed = getattr(args, name.replace("-", "_"), None) is not None
        return f"--set {name}" if name in assigned and not typed else option
    if f"{option}s" in args.parser.options:
        return f"{option}s"
    return name.upper() if hasattr(args, name) or hasattr(args, f"{name}s") else name
