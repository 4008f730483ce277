"""A program that runs another and kills it with SIGKILL, again and again.

`python -m tests.killed COUNT SEED train OUT ARGUMENTS...` takes the arguments of `train_under`,
`python -m tests.killed COUNT SEED export OUT ARGUMENTS...` those of `kerasrnn`. Each start is a
fork of a process that has imported everything, and kills itself. It prints as JSON, kill by kill,
what the kill was waiting for and the names of what it left half-written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from kerasrnn.cli import command as cli
from tests import train_under

KINDS = {"train": ("checkpoint", "anywhere", "epoch"), "export": ("export",)}
# Python tells of each operation before it is done: of a file that was written, before it is put in
# its place; of a folder, before each file is opened in it too.
PLACED, WRITTEN = ("os.rename",), ("open", "os.mkdir", "os.rename")
PROGRAMS = {"train": train_under.main, "export": cli.main}


def forked(program: str, argv: list[str], prepare: Callable[[], None]) -> int:
    """The process of a program that begins here, after `prepare()`."""
    process = os.fork()
    if not process:
        code = 1
        try:
            prepare()
            code = PROGRAMS[program](argv) or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return process


def half_written(kind: str, out: Path) -> list[str]:
    """Names of what is being written: for a checkpoint, at an epoch's end, for an export."""
    place, begins = {
        "checkpoint": (out / "checkpoint", ".partial."),
        "epoch": (out, ".partial."),
        "export": (out.parent, f".staging.{out.name}"),
        "anywhere": (out, "."),
    }[kind]
    return [path.name for path in sorted(place.glob(f"{begins}*"))]


def die_at(kind: str, out: Path, chance: random.Random) -> Callable[[], None]:
    """A function that lets its process kill itself at a chosen operation on what is being written,
    whatever the machine does meanwhile; "anywhere" sooner, and "export" later, by chance."""
    begins, operations, first, last = {
        "checkpoint": (out / "checkpoint" / ".partial.", WRITTEN, 2, 24),
        "epoch": (out / ".partial.", PLACED, 1, 4),
        "anywhere": (out / ".partial.", PLACED, 4, 4),
        "export": (out.parent / f".staging.{out.name}", WRITTEN, 2, 2),
    }[kind]
    left = chance.randint(first, last)  # the first of a folder makes it
    pause = chance.choice((0.0, 2.5)) * chance.random() if kind == "export" else 0.0
    seconds = chance.uniform(0, 6)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in operations and any(str(a).startswith(str(begins)) for a in arguments):
            left -= 1
            if left == 0:
                threading.Timer(pause, die).start() if pause else die()

    def prepare() -> None:
        sys.addaudithook(hear)
        if kind == "anywhere":
            timer = threading.Timer(seconds, die)
            timer.daemon = True
            timer.start()

    return prepare


def killed(program: str, argv: list[str], out: Path, kind: str, chance: random.Random) -> list[str]:
    """What stood half-written when a program that begins here was killed."""
    process = forked(program, argv, die_at(kind, out, chance))
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        raise RuntimeError(f"it ended before it was killed: {kind}, status {status}")
    return half_written(kind, out)


def main() -> None:
    count, seed, program, out, *argv = sys.argv[1:]
    chance, kinds = random.Random(int(seed)), KINDS[program]
    chosen = [kinds[i % len(kinds)] for i in range(int(count))]
    chance.shuffle(chosen)
    print(json.dumps([[kind, killed(program, argv, Path(out), kind, chance)] for kind in chosen]))


if __name__ == "__main__":
    main()
