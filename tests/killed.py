"""A program that runs another and kills it with SIGKILL, again and again.

`python -m tests.killed COUNT SEED train OUT ARGUMENTS...` takes the arguments of `train_under`,
`python -m tests.killed COUNT SEED export OUT ARGUMENTS...` those of `kerasrnn`. Each start is a
fork of a process that has imported everything. It prints as JSON, kill by kill, what the kill was
waiting for and the names of what it left half-written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kerasrnn import cli
from tests import train_under

LIMIT = 120.0  # seconds for what is waited for
KINDS = {"train": ("checkpoint", "anywhere", "epoch"), "export": ("export",)}
PAUSES = {"checkpoint": 0.1, "anywhere": 0.0, "epoch": 0.6, "export": 2.5}  # seconds, at most
PROGRAMS = {"train": train_under.main, "export": cli.main}


def forked(program: str, argv: list[str]) -> int:
    """The process of a program that begins here."""
    process = os.fork()
    if not process:
        code = 1
        try:
            code = PROGRAMS[program](argv) or 0
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


def moment(kind: str, out: Path, chance: random.Random) -> Callable[[], bool]:
    """Whether the time to kill has come: any time, or one of the next that something is written."""
    until, seen = time.monotonic() + chance.uniform(0, 6), []
    times = chance.randint(1, 3) if kind == "checkpoint" else 1

    def come() -> bool:
        nonlocal seen, times
        if kind == "anywhere":
            return time.monotonic() > until
        names = half_written(kind, out)
        times -= bool(names and names != seen)
        seen = names
        return times == 0

    return come


def killed(program: str, argv: list[str], out: Path, kind: str, chance: random.Random) -> list[str]:
    """What stood half-written when a program that begins here was killed."""
    process, come = forked(program, argv), moment(kind, out, chance)
    limit = time.monotonic() + LIMIT
    pause = chance.choice((0.0, PAUSES[kind])) * chance.random()
    while not come():
        if os.waitpid(process, os.WNOHANG)[0] or time.monotonic() > limit:
            raise RuntimeError(f"it ended, or did not come to be killed: {kind}")
        time.sleep(0.001)
    time.sleep(pause)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return half_written(kind, out)


def main() -> None:
    count, seed, program, out, *argv = sys.argv[1:]
    chance, kinds = random.Random(int(seed)), KINDS[program]
    chosen = [kinds[i % len(kinds)] for i in range(int(count))]
    chance.shuffle(chosen)
    print(json.dumps([[kind, killed(program, argv, Path(out), kind, chance)] for kind in chosen]))


if __name__ == "__main__":
    main()
