"""Where answers go: to stdout, or with --out into a table or a file of JSON lines."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import replacing
from kerasrnn.cli.printing import as_json, print_result

TABLE, LINES = ".csv", ".jsonl"

Write = Callable[[dict, str], None]


@contextlib.contextmanager
def answers(args) -> Iterator[Write]:
    """Open what --out names; the file appears whole at the end, or not at all.

    Yields:
        a function (answer by name, the same as a line of text), which writes one answer. Lists in
        it are of the N best, and a table has a row for each.

    Raises:
        InputError: when no file can be written there.
    """
    if args.out is None:
        yield lambda data, text: print_result(args, data, text)
        return
    path = _path(args)
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == LINES:
            yield lambda data, text: print(as_json(data), file=file)
        else:
            yield _table(file)


def _path(args) -> Path:
    """The path of --out, which is checked."""
    path = Path(args.out)
    if path.suffix not in (TABLE, LINES):
        step = f"write {path.stem}{TABLE} or {path.stem}{LINES}"
        raise InputError("--out", f"a name in {TABLE} or {LINES}", path, step)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError("--out", "a file in a folder that exists", path, "give another")
    if args.json:
        raise InputError("--json", "no --out beside it", path, f"leave it out, or write {LINES}")
    return path


def _table(file) -> Write:
    """The function that writes rows; the first answer gives the names of the columns."""
    writer = csv.writer(file, lineterminator="\n")
    names: list[str] = []

    def write(data: dict, text: str) -> None:
        rows = ranked(data)
        if not names:
            names.extend(rows[0])
            writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in rows)

    return write


def ranked(data: dict) -> list[dict]:
    """One row for each of the N best answers, or the one row of a single answer.

    >>> ranked({"source": "a", "text": ["b", "c"], "score": [-1.0, -2.0]})[1]
    {'source': 'a', 'rank': 2, 'text': 'c', 'score': -2.0}
    """
    lists = {name: values for name, values in data.items() if isinstance(values, list)}
    if not lists:
        return [data]
    rest = {name: value for name, value in data.items() if name not in lists}
    columns = zip(*lists.values(), strict=True)
    return [
        {**rest, "rank": rank, **dict(zip(lists, values, strict=True))}
        for rank, values in enumerate(columns, 1)
    ]
