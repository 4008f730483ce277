"""Aligned files as pairs of ids: nothing misaligned, every fault named or counted."""

import dataclasses
import gzip
import itertools
import os
import tracemalloc

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines import pairs as pipeline
from kerasrnn.pipelines import reading
from kerasrnn.pipelines.batching import batches
from kerasrnn.pipelines.dataset import original_errors
from kerasrnn.pipelines.pairs import Limits, PairReport, encode_pairs, read_pairs
from kerasrnn.text.tokenizers import CharTokenizer, WordTokenizer
from tests.id_files import rows_in

MEND = 'mend them, or drop them with faults="drop"'
LONG = b"x" * (reading.LONGEST + 1)
# what is wrong -> (the line, the reason, what is expected instead)
FAULTY = {
    "empty": (b"", "empty", "text in every line"),
    "blank": (" \u00a0\u2028".encode(), "empty", "text in every line"),
    "broken": (b"bad \xff", "not UTF-8", "UTF-8"),
    "cut": (b"cut \xf0\x9f", "not UTF-8", "UTF-8"),
    "surrogate": (b"\xed\xa0\x80", "not UTF-8", "UTF-8"),
    "long": (LONG, "over 64 KiB", "lines of at most 64 KiB"),
}


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def aligned(tmp_path, source: list[bytes], target: list[bytes], end=b"\n"):
    paths = (tmp_path / "s.txt", tmp_path / "t.txt")
    for path, lines in zip(paths, (source, target), strict=True):
        path.write_bytes(b"".join(line + end for line in lines))
    return paths


# --- reading ---


def test_one_file_has_both_sides_a_tab_between(tmp_path):
    path = written(tmp_path / "p.txt", "\ufeffone\teins\r\ntwo \t zwei\nthree\tdrei")
    packed = written(tmp_path / "packed", gzip.compress(path.read_bytes()))
    wanted = [("one", "eins"), ("two ", " zwei"), ("three", "drei")]
    assert list(read_pairs(path)) == list(read_pairs(str(packed))) == wanted


def test_a_tab_is_text_where_the_sides_have_files_of_their_own(tmp_path):
    source = written(tmp_path / "s", "a\tb\tc\n")
    packed = written(tmp_path / "t", gzip.compress(b"d\te\n"))
    assert list(read_pairs(source, packed)) == [("a\tb\tc", "d\te")]


# --- faults ---


@pytest.mark.parametrize("kind", FAULTY)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("tabbed", [False, True])
def test_a_fault_is_refused_with_file_and_line_or_dropped_and_counted(tmp_path, kind, side, tabbed):
    line, reason, expected = FAULTY[kind]
    lines = [[b"one", b"two", b"three"], [b"eins", b"zwei", b"drei"]]
    lines[side][1] = line
    paths = aligned(tmp_path, *lines)
    place, argument = f"{paths[side]}:2", ("source", "target")[side]
    if tabbed:
        content = b"\n".join(map(b"\t".join, zip(*lines, strict=True)))
        paths = (written(tmp_path / "both.tsv", content),)
        place, argument = f"{paths[0]}:2", "source"
    report = PairReport()
    reading_on = read_pairs(*paths, report=report)
    assert next(reading_on) == ("one", "eins")
    message = f"{argument}: expected {expected}, got {place} ({reason}); {MEND}"
    assert refused(lambda: next(reading_on)) == message
    report = PairReport()
    found = list(read_pairs(*paths, faults="drop", report=report))
    assert found == [("one", "eins"), ("three", "drei")]
    assert report == PairReport(2, {reason: 1}, {reason: [place]})


@pytest.mark.parametrize("line", ["one", "one\ttwo\tthree", "one\ttwo\t", "\ttwo\t"])
def test_a_line_without_two_columns_is_refused_or_dropped(tmp_path, line):
    path, report = written(tmp_path / "p.tsv", f"a\tb\n{line}\nc\td\n"), PairReport()
    assert refused(lambda: list(read_pairs(path))) == (
        "source: expected two columns, a tab between them, in every line, "
        f"got {path}:2 (not two columns); {MEND}"
    )
    assert list(read_pairs(path, faults="drop", report=report)) == [("a", "b"), ("c", "d")]
    assert report.dropped == {"not two columns": 1}


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_long_line_of_two_columns_never_comes_back_in_part(tmp_path, monkeypatch, size):
    monkeypatch.setattr(reading.blocks, "__defaults__", ("text", size))
    column, report = "y" * 40_000, PairReport()
    path = written(tmp_path / "p.tsv", f"a\tb\n{column}\t{column}\n{column}\t{'z' * 20_000}\n")
    found = list(read_pairs(path, faults="drop", report=report))
    assert found == [("a", "b"), (column, "z" * 20_000)]
    assert report.places == {"over 64 KiB": [f"{path}:2"]}


@pytest.mark.parametrize("line", ["", "\t", "  ", "\t\t"])
def test_a_line_with_nothing_in_its_columns_is_empty(tmp_path, line):
    path, report = written(tmp_path / "p.tsv", f"a\tb\n{line}\n"), PairReport()
    assert list(read_pairs(path, faults="drop", report=report)) == [("a", "b")]
    assert report.places == {"empty": [f"{path}:2"]}


def test_a_pair_with_two_faults_is_dropped_once_as_its_source_is(tmp_path):
    paths, report = aligned(tmp_path, [b"\xff", b"a"], [b"", b"b"]), PairReport()
    assert list(read_pairs(*paths, faults="drop", report=report)) == [("a", "b")]
    assert report.dropped == {"not UTF-8": 1}


@pytest.mark.parametrize("faults", ["refuse", "drop"])
@pytest.mark.parametrize("shorter", [0, 1])
def test_unequal_line_counts_are_always_refused(tmp_path, faults, shorter):
    lines = [[b"x"] * 1200, [b"y"] * 1203]
    paths = aligned(tmp_path, *(lines if shorter == 0 else lines[::-1]))
    here, there = ("1,200", "1,203") if shorter == 0 else ("1,203", "1,200")
    assert refused(lambda: list(read_pairs(*paths, faults=faults))) == (
        f"target: expected as many lines as the source ({here} in {paths[0]}), "
        f"got {there} in {paths[1]}; align the files line by line"
    )


def test_an_empty_file_is_named(tmp_path):
    empty, other = written(tmp_path / "empty", b""), written(tmp_path / "other", b"a\n")
    message = f"source: expected a file with text in it, got {empty}, which is empty; give another"
    for paths in ([empty], [empty, empty], [str(empty)]):
        assert refused(lambda paths=paths: list(read_pairs(*paths, faults="drop"))) == message
    assert refused(lambda: list(read_pairs(empty, other))) == (
        f"target: expected as many lines as the source (0 in {empty}), got 1 in {other}; "
        "align the files line by line"
    )


def test_files_that_cannot_be_read_are_named_as_the_argument_they_are(tmp_path):
    there, missing = written(tmp_path / "there", b"a\n"), tmp_path / "missing"
    cut = written(tmp_path / "cut.gz", gzip.compress(b"a\n" * 99)[:-9])
    wide = written(tmp_path / "wide", "\ufeffa\n".encode("utf-16-le"))
    reason = "Compressed file ended before the end-of-stream marker was reached"
    for path, expected, received, next_step in (
        (missing, "a file that can be read", f"{missing} (No such file or directory)", "check it"),
        (cut, "a whole gzip file", f"{cut} ({reason})", "repack it"),
        (wide, "UTF-8", f"{wide}, which begins as UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"),
    ):
        for argument, paths in (("source", (path, there)), ("target", (there, path))):
            assert refused(lambda paths=paths: list(read_pairs(*paths, faults="drop"))) == (
                f"{argument}: expected {expected}, got {received}; {next_step}"
            )


def test_all_faulty_lines_are_listed(tmp_path):
    source = [b"a"] * 21 + [b""] * 12 + [b"\xff"]
    paths = aligned(tmp_path, source, [b"b"] * 20 + [b""] + [b"b"] * 13)
    ten = ", ".join(f"{paths[0]}:{line} (empty)" for line in range(22, 31))
    assert refused(lambda: list(read_pairs(*paths))) == (
        f"target: expected text in every line and UTF-8, got 14 faulty lines: "
        f"{paths[1]}:21 (empty), {ten} and 4 more; {MEND}"
    )


def test_one_column_in_every_line_asks_for_the_other_file(tmp_path):
    path = written(tmp_path / "a.en", "one\ntwo\n")
    said = refused(lambda: list(read_pairs(path)))
    assert said.endswith(f"; give the translations as target, or {MEND}")
    options = {"faults": "drop"}
    said = refused(lambda: encode_pairs(path, None, CHARS, CHARS, tmp_path / "ids", **options))
    assert said.endswith("; give the translations as target, or change what is dropped")


def test_some_of_the_pairs(tmp_path):
    paths, report = aligned(tmp_path, [b"a", b"", b"b", b"c"], [b"d"] * 4), PairReport()
    some = list(read_pairs(*paths, faults="drop", keep=lambda n: n != 1, report=report))
    assert some == [("a", "d"), ("c", "d")] and report.kept == 2
    some = {"faults": "drop", "keep": lambda n: n == 1}
    _, report = encode_pairs(*paths, CHARS, CHARS, tmp_path / "ids", **some)
    assert (report.kept, report.dropped) == (1, {})


def test_another_word_for_what_to_do_is_refused(tmp_path):
    assert refused(lambda: next(read_pairs(tmp_path / "none", faults="ignore"))) == (
        'faults: expected "refuse" or "drop", got \'ignore\'; choose one'
    )


def test_the_report_names_five_places_of_each_reason(tmp_path):
    source, target = aligned(tmp_path, [b"a", b""] * 1200 + [b"\xff"], [b"b"] * 2401)
    report = PairReport()
    assert len(list(read_pairs(source, target, faults="drop", report=report))) == 1200
    places = [f"{source}:{n}" for n in (2, 4, 6, 8, 10)]
    assert report.places == {"empty": places, "not UTF-8": [f"{source}:2401"]}
    assert str(report) == (
        f"1,200 pairs; 1,201 dropped: 1,200 empty ({', '.join(places)}), "
        f"1 not UTF-8 ({source}:2401)"
    )
    assert str(PairReport(1200, {}, {}, 5000, 6000, 7, 0)) == (
        "1,200 pairs, 5,000 source tokens (7 unknown), 6,000 target tokens (0 unknown)"
    )


def test_reading_holds_no_more_than_a_piece(tmp_path):
    line = b"All work and no play makes Jack a dull boy.\n"
    source = written(tmp_path / "s", line * 60_000)
    target = written(tmp_path / "t", line * 30_000 + b"x" * (12 << 20) + b"\n" + line * 29_999)
    report = PairReport()
    tracemalloc.start()
    first = next(read_pairs(source, target))
    count = sum(1 for _ in read_pairs(source, target, faults="drop", report=report))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first == (line.decode().strip(),) * 2 and count == report.kept == 59_999
    assert report.places == {"over 64 KiB": [f"{target}:30001"]}
    assert peak < 10 << 20


# --- encoding ---


CHARS = CharTokenizer(list("abcdefgh"))


def encoded(tmp_path, source, target, **options):
    paths = aligned(tmp_path, source, target)
    return encode_pairs(*paths, CHARS, CHARS, tmp_path / "ids", **options)


def texts(pairs) -> list[tuple[str, str]]:
    return [
        tuple("".join(CHARS.pieces[i] for i in side) for side in pair)
        for pair in zip(*rows_in(pairs), strict=True)
    ]


def test_pairs_come_back_in_the_order_of_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "LINES", 3)
    source = [b"a" * (n % 5 + 1) + b"bcdefgh"[n % 7 : n % 7 + 1] for n in range(17)]
    target = [b"h" * (n % 3 + 1) for n in range(17)]
    pairs, report = encoded(tmp_path, source, target)
    wanted = [(s.decode(), t.decode()) for s, t in zip(source, target, strict=True)]
    assert len(pairs) == 17 and texts(pairs) == wanted
    assert pairs.source_lengths.dtype == pairs.target_lengths.dtype == np.int32
    assert pairs.source_lengths.tolist() == [len(s) for s in source]
    assert pairs.target_lengths.tolist() == [len(t) for t in target]
    assert report == PairReport(17, {}, {}, sum(map(len, source)), sum(map(len, target)))


def test_what_is_dropped_by_length_is_counted_with_its_line(tmp_path):
    source = [b"ab", b"a", b"abcdefg", b"abc", b"abcd", b"", b"xy"]
    target = [b"ab", b"abc", b"abc", b"abcdefgh", b"ab", b"a", b"zzz"]
    limits = Limits(minimum=2, maximum=7, ratio=1.5)
    pairs, report = encoded(tmp_path, source, target, limits=limits, faults="drop")
    path = tmp_path / "s.txt"
    assert texts(pairs) == [("ab", "ab"), ("��", "���")]
    assert report == PairReport(
        2,
        {"empty": 1, "under 2 tokens": 1, "length ratio over 1.5": 2, "over 7 tokens": 1},
        {
            "empty": [f"{path}:6"],
            "under 2 tokens": [f"{path}:2"],
            "length ratio over 1.5": [f"{path}:3", f"{path}:5"],
            "over 7 tokens": [f"{path}:4"],
        },
        source_tokens=4,
        target_tokens=5,
        source_unknown=2,
        target_unknown=3,
    )


def test_limits_hold_on_both_sides_and_at_their_edges():
    lengths = np.array(list(itertools.product(range(1, 7), repeat=2)))
    for minimum, maximum, ratio in itertools.product((1, 2), (None, 4), (None, 1.0, 2.0)):
        reasons = Limits(minimum, maximum, ratio).reasons(*lengths.T)
        for (s, t), reason in zip(lengths.tolist(), reasons.tolist(), strict=True):
            good = min(s, t) >= minimum and max(s, t) <= (maximum or 9)
            good = good and (ratio is None or max(s, t) / min(s, t) <= ratio)
            assert (reason == "") == good, (s, t, reason)


def test_limits_that_cannot_be_are_refused():
    assert refused(lambda: Limits(minimum=0)) == (
        "minimum length: expected 1 or more, got 0; raise it"
    )
    assert refused(lambda: Limits(minimum=5, maximum=4)) == (
        "maximum length: expected 5 or more, as the minimum is, got 4; raise it"
    )
    assert refused(lambda: Limits(ratio=0.5)) == (
        "length ratio: expected 1 or more, got 0.5; raise it"
    )


def test_no_pair_left_is_refused_and_leaves_nothing(tmp_path):
    call = lambda: encoded(tmp_path, [b"a", b"ab"], [b"b", b"a"], limits=Limits(3))  # noqa: E731
    source = tmp_path / "s.txt"
    assert refused(call) == (
        "source: expected pairs that can be used, got 0 pairs; 2 dropped: "
        f"2 under 3 tokens ({source}:1, {source}:2); change what is dropped"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"s.txt", "t.txt"}


def test_an_encoding_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "LINES", 2)
    written(tmp_path / "ids", b"old")
    refused(lambda: encoded(tmp_path, [b"a"] * 9, [b"b"] * 8))
    refused(lambda: encoded(tmp_path, [b"a"] * 9, [b"b"] * 8 + [b""]))
    assert (tmp_path / "ids").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"s.txt", "t.txt", "ids"}


@pytest.mark.parametrize("sizes, dtype", [((250, 3), "uint8"), ((3, 253), "uint16")])
def test_ids_lie_in_the_smallest_type_that_holds_both_sides(tmp_path, sizes, dtype):
    kinds = [CharTokenizer([chr(0x4E00 + n) for n in range(size)]) for size in sizes]
    line = "".join(chr(0x4E00 + n) for n in range(250)).encode()
    paths = aligned(tmp_path, [line], [line])
    pairs, _ = encode_pairs(*paths, *kinds, tmp_path / "ids")
    assert pairs.file.dtype == dtype
    assert (tmp_path / "ids").stat().st_size == 500 * np.dtype(dtype).itemsize
    for [ids], size in zip(rows_in(pairs), sizes, strict=True):
        assert ids == [*range(4, 4 + min(size, 250)), *[1] * (250 - size)]


def test_pairs_can_move_and_miss_their_file(tmp_path):
    pairs, _ = encoded(tmp_path, [b"ab", b"c"], [b"d", b"efg"])
    moved = pairs.moved(tmp_path / "there")
    assert not pairs.file.path.exists() and texts(moved) == [("ab", "d"), ("c", "efg")]
    os.truncate(moved.file.path, 6)

    def read(file):
        with original_errors():
            list(batches(dataclasses.replace(pairs, file=file), batch_size=2))

    for file, reason in ((moved.file, "changed since"), (pairs.file, "No such file or directory")):
        assert refused(lambda file=file: read(file)) == (
            f"pairs: expected a file that stays as it was written, got {file.path} ({reason}); "
            "the same command writes it again"
        )
    reasons = (", which has 6", " (No such file or directory)")
    for file, reason in zip((moved.file, pairs.file), reasons, strict=True):
        file = dataclasses.replace(file, stamp=None)
        assert refused(lambda file=file: read(file)) == (
            f"pairs: expected a file of 7 ids, got {file.path}{reason}; encode it again"
        )


def test_encoding_does_not_hold_the_text(tmp_path):
    line = b"All work and no play makes Jack a dull boy, 1234567890 times.\n"
    paths = [written(tmp_path / name, line * 20_000) for name in ("s", "t")]
    tokenizer = CharTokenizer.from_texts([line.decode()])
    tracemalloc.start()
    pairs, report = encode_pairs(*paths, tokenizer, tokenizer, tmp_path / "ids")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.source_tokens == 20_000 * (len(line) - 1) and len(pairs) == 20_000
    assert peak < 12 << 20  # the two texts have 26 MiB in memory


def test_real_sentences_come_back_from_both_vocabularies(shared_data, tmp_path):
    paths = [shared_data / "multi30k" / f"val.{language}" for language in ("en", "de")]
    sides = list(zip(*read_pairs(*paths), strict=True))
    assert len(sides[0]) == 1014
    kinds = [WordTokenizer.from_texts(side) for side in sides]
    pairs, report = encode_pairs(*paths, *kinds, tmp_path / "ids", limits=Limits(maximum=30))
    assert report.dropped["over 30 tokens"] == 1014 - len(pairs) > 0
    assert (report.source_unknown, report.target_unknown) == (0, 0)
    assert report.source_tokens == pairs.source_lengths.sum()
    ids = [kind.tokenize(list(side)).to_list() for kind, side in zip(kinds, sides, strict=True)]
    kept = [pair for pair in zip(*ids, strict=True) if max(map(len, pair)) <= 30]
    assert [*zip(*rows_in(pairs), strict=True)] == kept
