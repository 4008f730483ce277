"""The synopsis of the command line, made from its parsers; `python -m kerasrnn.cli.synopsis`."""

from __future__ import annotations

import re
import textwrap

from kerasrnn.cli.parser import make_parser
from kerasrnn.cli.parsing import Parser
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.settings import as_option, said_of

WIDTH = 120
# An option with its value, in brackets or not, or a positional argument.
PART = re.compile(r"\[[^\[\]]*(?:\[[^\]]*\])?[^\[\]]*\]|--\S+ [^\s\[]+(?: \[[^\]]*\])?|\S+")
EVERYWHERE = ["--help", "--json", "--import"]


def _parts(parser: Parser) -> list[str]:
    """The options and arguments of a command as its usage has them; arguments first."""
    usage = " ".join(parser.format_usage().split()).removeprefix(f"usage: {parser.prog} ")
    usage = re.sub(r"(\S+) \[\1 \.\.\.\]", r"\1…", usage)  # FILE [FILE ...]
    usage = re.sub(r"\[(\S+) \.\.\.\]", r"[\1…]", usage)
    usage = re.sub(r"\{([^}]*)\}", lambda choices: choices[1].replace(",", "|"), usage)
    parts = [part for part in PART.findall(usage) if part != "[-h]" and not _is(part, EVERYWHERE)]
    return sorted(parts, key=lambda part: (part.lstrip("[").startswith("--"), part[0] == "["))


def _is(part: str, options: list[str]) -> bool:
    """Whether a part of the usage is one of these options."""
    return part.strip("[]").split()[0] in options


def _lines(command: str, parts: list[str]) -> list[str]:
    """A command with its options, in lines."""
    kept = [part.replace(" ", "\0") for part in parts]  # an option stays with its value
    indent = " " * len(f"kerasrnn {command} ")
    wrapped = textwrap.wrap(
        " ".join(kept), WIDTH, initial_indent=f"kerasrnn {command} ", subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in wrapped]


def synopsis() -> str:
    """All commands with their options, as README shows them."""
    known = make_parser().commands
    lines, common = [], []
    for task in TASKS.values():
        own = [option.typed for option in task.options_of("train")] + ["--preset"]
        settings = [as_option(name) for name in said_of(task.settings)]
        parts = [part for part in _parts(known[f"train {task.name}"]) if not _is(part, settings)]
        mine = [part for part in parts if _is(part, [*own, "--out"])]
        common = [part for part in parts if part not in mine]
        lines += _lines(f"train {task.name}", mine)
    lines += _lines("train …", [*common, "[--SETTING VALUE]…"])
    for name, parser in known.items():
        if not name.startswith("train"):
            lines += _lines(name, _parts(parser))
    lines += [f"kerasrnn settings {'|'.join(TASKS)} [--preset PRESET]"]
    return "\n".join([*lines, "kerasrnn … [--json] [--import PACKAGE]…"])


if __name__ == "__main__":
    print(synopsis())
