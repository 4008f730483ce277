"""Answers of a whole file in a table or as JSON lines (--out)."""

import csv
import json
from argparse import Namespace

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.cli.answers import answers

ROWS = [
    {"source": 'a "b", c', "text": ["x\ny", ""], "score": [-0.5, -float("inf")]},
    {"source": "日本", "text": ["z", "é"], "score": [-1.0, -2.0]},
]


def write(path, rows=ROWS, **options) -> None:
    with answers(Namespace(out=path, json=False, **options)) as write:
        for row in rows:
            write(row, "not written")


def test_a_table_has_a_row_for_each_answer(tmp_path):
    write(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["source", "rank", "text", "score"],
        ['a "b", c', "1", "x\ny", "-0.5"],
        ['a "b", c', "2", "", "-inf"],
        ["日本", "1", "z", "-1.0"],
        ["日本", "2", "é", "-2.0"],
    ]
    write(tmp_path / "b.csv", [{"prompt": "a", "text": "ab"}])
    assert (tmp_path / "b.csv").read_text() == "prompt,text\na,ab\n"


def test_json_lines_are_what_json_prints(tmp_path):
    write(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{**ROWS[0], "score": [-0.5, None]}, ROWS[1]]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_appears_whole_or_not_at_all(name, tmp_path):
    (tmp_path / name).write_text("of an earlier time")
    with pytest.raises(KeyboardInterrupt):
        with answers(Namespace(out=tmp_path / name, json=False)) as write:
            write(ROWS[0], "")
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "of an earlier time"


def test_where_it_cannot_be_written(tmp_path):
    for path, json_asked, message in (
        (
            tmp_path / "a.txt",
            False,
            r"^--out: expected a name in .csv or .jsonl, got .*a.txt; write",
        ),
        (
            tmp_path / "none" / "a.csv",
            False,
            "^--out: expected a file in a folder that exists, got",
        ),
        (
            tmp_path / "a.csv",
            True,
            "^--json: expected no --out beside it, got .*a.csv; leave it out",
        ),
    ):
        with pytest.raises(InputError, match=message):
            with answers(Namespace(out=path, json=json_asked)):
                raise AssertionError("opened")
    assert list(tmp_path.iterdir()) == []
