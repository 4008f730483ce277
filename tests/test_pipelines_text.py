"""Text files as id streams and windows: nothing torn, nothing lost, nothing held."""

import gzip
import hashlib
import itertools
import os
import tracemalloc

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines import text as pipeline
from kerasrnn.pipelines.dataset import original_errors
from kerasrnn.pipelines.text import (
    IdStream,
    Position,
    Report,
    contiguous,
    encode,
    fingerprint,
    read_text,
    read_texts,
    shuffled,
)
from kerasrnn.text.tokenizers import CharTokenizer, SentencePieceTokenizer, WordTokenizer
from tests.id_files import ids_in, stream_of

END = 3
MIXED = (
    "Tōkyō 日本語 isn't\r\n😀 e\u0301 far\n\nlong-line without breaks, but spaces; " * 4 + "\nénd"
)


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def stream(tmp_path, n: int, dtype="uint16") -> IdStream:
    """N ids, each one its own place plus 10."""
    return stream_of(tmp_path / "ids", np.arange(10, 10 + n), dtype)


def batches(dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def as_lists(dataset) -> list:
    return [(x.tolist(), y.tolist()) for x, y in batches(dataset)]


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


# --- reading ---


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 16, 64, 1 << 20])
def test_text_comes_back_whole_whatever_the_chunk(tmp_path, monkeypatch, chunk):
    path = written(tmp_path / "t", "\ufeff" + MIXED)
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    report = Report()
    parts = list(read_text(path, report))
    assert "".join(parts) == MIXED and "" not in parts
    assert report.characters == len(MIXED) and report.lines.dropped == {}
    assert chunk > 64 or len(parts) > 3


@pytest.mark.parametrize("chunk", [16, 33, 64])
def test_chunks_end_where_no_word_does(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    parts = list(read_text(written(tmp_path / "t", MIXED)))
    for before, after in itertools.pairwise(parts):
        assert before.endswith("\n") or after.startswith(" ")


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer, SentencePieceTokenizer])
def test_chunks_give_the_ids_of_the_whole(tmp_path, monkeypatch, kind):
    text = MIXED * 12
    path = written(tmp_path / "t", text)
    tokenizer = kind.from_texts([text], 60)
    whole = tokenizer.tokenize([text]).to_list()[0]
    for chunk in (24, 50, 133):
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        ids, report = encode([path], tokenizer, tmp_path / "ids")
        assert ids_in(ids) == whole
        assert (report.tokens, report.unknown) == (len(whole), whole.count(1))


def test_a_line_without_any_break_is_cut_at_the_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK", 10)
    path = written(tmp_path / "t", "日" * 35)
    parts = list(read_text(path))
    assert "".join(parts) == "日" * 35 and max(map(len, parts)) <= 14


def test_gzip_reads_as_plain_whatever_its_name(tmp_path):
    plain = written(tmp_path / "plain.txt", "\ufeff" + MIXED)
    packed = written(tmp_path / "packed.txt", gzip.compress(plain.read_bytes()))
    assert (
        list(read_text(packed)) == list(read_text(plain)) == [MIXED[: MIXED.rfind("\n") + 1], "énd"]
    )
    assert fingerprint([packed]) == fingerprint([plain])


def test_the_fingerprint_is_that_of_the_bytes_and_of_where_files_end(tmp_path):
    one, two = written(tmp_path / "1", "ab"), written(tmp_path / "2", "c")
    three, four = written(tmp_path / "3", "a"), written(tmp_path / "4", "bc")
    assert fingerprint([str(one)]) == hashlib.sha256(b"ab").hexdigest()
    prints = [fingerprint(p) for p in ([one, two], [three, four], [two, one], [one])]
    assert len(set(prints)) == 4


LINES = [
    "fine \ufffd".encode(),
    b"bad \xff\xfe",
    b"",
    "genuine \ufffd".encode(),
    b"cut \xf0\x9f",
]


@pytest.mark.parametrize("chunk", [16, 33, 1 << 20])
def test_lines_that_are_not_utf8_are_refused_or_dropped(tmp_path, monkeypatch, chunk):
    path = written(tmp_path / "t", b"\n".join(LINES))
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    assert refused(lambda: list(read_text(path))) == (
        f"text: expected UTF-8, got 2 faulty lines: {path}:2 (not UTF-8), {path}:5 (not UTF-8); "
        'convert it: iconv -f LATIN1 -t UTF-8, or drop them with faults="drop"'
    )
    report = Report()
    text = "".join(read_text(path, report, faults="drop"))
    assert text == "fine \ufffd\n\ngenuine \ufffd\n" and report.characters == len(text)
    assert report.lines.places == {"not UTF-8": [f"{path}:2", f"{path}:5"]}


def test_ten_of_many_faulty_lines_are_named(tmp_path):
    path = written(tmp_path / "t", b"fine\n" * 3 + "märz\n".encode("latin-1") * 300)
    said = refused(lambda: list(read_text(path)))
    assert f"got 300 faulty lines: {path}:4 (not UTF-8), {path}:5 " in said
    assert f"{path}:13 (not UTF-8) and 290 more; convert it" in said


def test_text_of_another_kind_is_refused(tmp_path):
    wide = written(tmp_path / "wide", "\ufeffa\n".encode("utf-16-le"))
    assert refused(lambda: list(read_text(wide))) == (
        f"text: expected UTF-8, got {wide}, which begins as UTF-16; "
        "convert it: iconv -f UTF-16 -t UTF-8"
    )
    noise = written(tmp_path / "noise", np.random.default_rng(0).bytes(5000))
    assert "text: expected UTF-8, got " in refused(lambda: list(read_text(noise)))
    latin = written(tmp_path / "latin", b"\xe4\n\xf6\n")
    assert refused(lambda: list(read_text(latin, faults="drop"))) == (
        f"text: expected a file with text in it, got {latin}, which has no line that is UTF-8; "
        "give another"
    )
    assert 'expected "refuse" or "drop"' in refused(lambda: list(read_text(wide, faults="x")))


def test_a_genuine_replacement_character_is_nobodys_fault(tmp_path, monkeypatch):
    path = written(tmp_path / "t", "a\ufffd\ufffd b\ufffd\n" * 5)
    for chunk in range(1, 9):
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        report = Report()
        assert "".join(read_text(path, report)).count("\ufffd") == 15
        assert report.lines.dropped == {}


def test_the_report_names_five_lines_at_most(tmp_path):
    path = written(tmp_path / "t", b"a\n\xff\xff\n" * 1200)
    tokenizer = CharTokenizer(["\n"])
    _, report = encode([path, path], tokenizer, tmp_path / "ids", faults="drop")
    places = ", ".join(f"{path}:{n}" for n in range(2, 12, 2))
    assert str(report) == (
        f"4,800 characters, 4,801 tokens, 2,400 unknown; 2,400 dropped: 2,400 not UTF-8 ({places})"
    )
    assert str(Report(1234, 5, 6)) == "1,234 characters, 5 tokens, 6 unknown"


def test_only_the_first_mark_of_a_file_is_a_byte_order_mark(tmp_path):
    path = written(tmp_path / "t", "\ufeff\ufeffa\ufeff\n")
    assert list(read_texts([path, path])) == ["\ufeffa\ufeff\n"] * 2


# --- files that cannot be read ---


def test_files_that_cannot_be_read_are_named(tmp_path):
    missing, empty = tmp_path / "missing", written(tmp_path / "empty", b"")
    packed = written(tmp_path / "empty.gz", gzip.compress(b""))
    for path in (empty, packed):
        assert refused(lambda path=path: list(read_text(path))) == (
            f"text: expected a file with text in it, got {path}, which is empty; give another"
        )
    for read in (lambda p: list(read_text(p)), lambda p: fingerprint([p])):
        assert refused(lambda read=read: read(missing)) == (
            f"text: expected a file that can be read, got {missing} (No such file or directory); "
            "check it"
        )
        assert refused(lambda read=read: read(tmp_path)) == (
            f"text: expected a file that can be read, got {tmp_path} (Is a directory); check it"
        )


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = written(tmp_path / "t", "secret")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        monkeypatch.setattr(type(path), "open", denied)
    assert refused(lambda: list(read_text(path))) == (
        f"text: expected a file that can be read, got {path} (Permission denied); check it"
    )


def denied(path, *_):
    raise PermissionError(13, "Permission denied", str(path))


def test_a_pipe_is_refused_because_it_can_be_read_once_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(lambda: fingerprint([tmp_path / "pipe"])) == (
        f"text: expected a file that can be read twice, got {tmp_path / 'pipe'}; write it to a file"
    )


def test_a_damaged_gzip_file_is_named_with_what_is_wrong(tmp_path):
    packed = gzip.compress(np.random.default_rng(0).bytes(4000))
    words = gzip.compress(b"hello " * 1000)
    damaged = {
        "Compressed file ended before the end-of-stream marker was reached": packed[:-20],
        "Error -3 while decompressing data: invalid block type": words[:10] + b"\xff" + words[11:],
        "Not a gzipped file (b'ju')": words + b"junk",
    }
    for reason, content in damaged.items():
        path = written(tmp_path / "t.gz", content)
        assert refused(lambda path=path: list(read_text(path))) == (
            f"text: expected a whole gzip file, got {path} ({reason}); repack it"
        )


# --- encoding ---


@pytest.mark.parametrize(
    "size, dtype",
    [(5, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")],
)
def test_ids_lie_in_the_smallest_type_that_holds_them(tmp_path, size, dtype):
    last = chr(0x4E00 + 0)
    others = (chr(c) for c in range(0x10000, 0x10000 + size - 5))
    tokenizer = CharTokenizer([*others, last])
    ids, _ = encode([written(tmp_path / "t", f"{last}\n{last}")], tokenizer, tmp_path / "ids")
    assert tokenizer.size == size and ids.file.dtype == dtype
    assert (tmp_path / "ids").stat().st_size == 3 * np.dtype(dtype).itemsize
    assert ids_in(ids) == [size - 1, 1, size - 1]
    (inputs, targets), *_ = batches(contiguous(ids, 1, 3))
    assert targets.dtype == inputs.dtype == np.int32 and targets.tolist() == [
        [size - 1, 1, size - 1]
    ]


def test_an_end_id_stands_between_files_and_nowhere_else(tmp_path):
    paths = [written(tmp_path / name, name * 2) for name in ("a", "b", "c")]
    tokenizer = CharTokenizer(["a", "b", "c"])
    ids, report = encode(paths, tokenizer, tmp_path / "ids")
    assert ids_in(ids) == [4, 4, END, 5, 5, END, 6, 6]
    assert report == Report(characters=6, tokens=8)
    assert tokenizer.detokenize([ids_in(ids)]).numpy()[0] == b"aabbcc"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_encoding_that_fails_leaves_what_was_there(tmp_path, monkeypatch, error):
    monkeypatch.setattr(pipeline, "CHUNK", 8)
    path, tokenizer = written(tmp_path / "t", "one two three four"), CharTokenizer(["o"])
    calls = []

    def tokenize(strings):
        calls.append(strings)
        if len(calls) == 2:
            raise error
        return CharTokenizer.tokenize(tokenizer, strings)

    monkeypatch.setattr(tokenizer, "tokenize", tokenize)
    for before in ({"t"}, {"t", "ids"}):
        calls.clear()
        with pytest.raises(error):
            encode([path], tokenizer, tmp_path / "ids")
        assert {p.name for p in tmp_path.iterdir()} == before and len(calls) == 2
        written(tmp_path / "ids", b"old")
    assert (tmp_path / "ids").read_bytes() == b"old"


def test_a_second_file_that_is_missing_leaves_no_ids(tmp_path):
    path = written(tmp_path / "t", "some text")
    refused(lambda: encode([path, tmp_path / "none"], CharTokenizer(["s"]), tmp_path / "ids"))
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_encoding_does_not_hold_the_text(tmp_path):
    line = "All work and no play makes Jack a dull boy, 1234567890 times.\n"
    path = written(tmp_path / "t", line * (24_000_000 // len(line)))
    tokenizer = CharTokenizer.from_texts([line])
    encode([written(tmp_path / "warm", line)], tokenizer, tmp_path / "ids")
    tracemalloc.start()
    ids, report = encode([path], tokenizer, tmp_path / "ids")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.characters == len(ids) == path.stat().st_size
    assert peak < 16 << 20


def test_reading_a_batch_reads_no_more_than_a_batch(tmp_path):
    ids = stream(tmp_path, 8_000_000, "uint32")
    tracemalloc.start()
    inputs, _ = next(iter(contiguous(ids, 4, 50)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inputs.numpy()[:, 1].tolist() == [10, 2_000_010, 4_000_010, 6_000_010]
    assert peak < 4 << 20


# --- the stream ---


def test_a_stream_splits_by_position_and_reads_from_its_own_beginning(tmp_path):
    train, valid = stream(tmp_path, 20).split(0.75)
    assert (len(train), len(valid)) == (15, 5)
    assert as_lists(contiguous(train, 3, 5))[0][1] == [[*range(k, k + 5)] for k in (10, 15, 20)]
    assert as_lists(contiguous(valid, 1, 5)) == [([[2, 25, 26, 27, 28]], [[25, 26, 27, 28, 29]])]
    left, right = valid.split(0.5)
    assert (ids_in(left), ids_in(right)) == ([25, 26], [27, 28, 29])


def test_a_file_of_ids_can_move(tmp_path):
    moved = stream(tmp_path, 6).file.moved(tmp_path / "there")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
    assert moved.read([2], [3], 4).numpy().tolist() == [[12, 13, 14, 0]]


def test_a_stream_whose_file_was_cut_says_so(tmp_path):
    ids = stream(tmp_path, 20)
    os.truncate(ids.file.path, 30)

    def read():
        with original_errors():
            batches(contiguous(ids, 2, 5))

    assert refused(read) == (
        f"ids: expected a file of 20 ids, got {ids.file.path}, which has 15; encode it again"
    )
    ids.file.path.unlink()
    assert refused(read) == (
        f"ids: expected a file of 20 ids, got {ids.file.path} (No such file or directory); "
        "encode it again"
    )


# --- contiguous windows ---


def test_rows_go_on_from_batch_to_batch_through_the_files_own_ids(tmp_path):
    path = written(tmp_path / "t", MIXED)
    ids, _ = encode([path], CharTokenizer.from_texts([MIXED]), tmp_path / "ids")
    on_disk = np.array(ids_in(ids))
    found = batches(contiguous(ids, 3, 7, whole=True))
    inputs, targets = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    row = len(on_disk) // 3
    np.testing.assert_array_equal(targets, on_disk[: 3 * row].reshape(3, row))
    assert inputs[:, 0].tolist() == [2, 2, 2]
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert {x.shape for x, _ in found[:-1]} == {(3, 7)}


def test_the_windows_of_the_docstring(tmp_path):
    ids = stream_of(tmp_path / "ids", range(4, 10))
    full = ([[2, 4], [2, 7]], [[4, 5], [7, 8]])
    assert as_lists(contiguous(ids, 2, 2)) == [full]
    assert as_lists(contiguous(ids, 2, 2, whole=True)) == [full, ([[5], [8]], [[6], [9]])]
    assert as_lists(contiguous(ids, 2, 3, whole=True)) == as_lists(contiguous(ids, 2, 3))


def test_windows_are_int32_and_counted(tmp_path):
    ids = stream(tmp_path, 47, "uint32")
    for whole, count in ((False, 3), (True, 4)):
        dataset = contiguous(ids, 2, 6, whole=whole)
        assert len(dataset) == count == len(batches(dataset))
        assert {s.dtype.name for s in dataset.element_spec} == {"int32"}
        assert dataset.element_spec[0].shape.as_list() == [2, None if whole else 6]


@pytest.mark.parametrize("whole", [False, True])
def test_a_position_gives_exactly_the_batches_that_remain(tmp_path, whole):
    ids = stream(tmp_path, 67)
    every = as_lists(contiguous(ids, 3, 4, whole=whole))
    assert len(every) == (6 if whole else 5)
    for batch in range(len(every) + 2):
        rest = contiguous(ids, 3, 4, whole=whole, position=Position(batch=batch))
        assert as_lists(rest) == every[batch:] and len(rest) == len(every[batch:])


@pytest.mark.parametrize("workers", [2, 3, 6])
@pytest.mark.parametrize("make", [contiguous, shuffled])
def test_the_shards_together_are_the_batches(tmp_path, make, workers):
    ids = stream(tmp_path, 200)
    options = {"seed": 5} if make is shuffled else {"whole": True}
    whole = batches(make(ids, 6, 7, **options))
    shards = [batches(make(ids, 6, 7, shard=(i, workers), **options)) for i in range(workers)]
    assert len(whole) == len(shards[0]) > 3
    for k, (x, y) in enumerate(whole):
        np.testing.assert_array_equal(x, np.concatenate([s[k][0] for s in shards]))
        np.testing.assert_array_equal(y, np.concatenate([s[k][1] for s in shards]))


@pytest.mark.parametrize("rows, workers", [(5, 3), (1, 2), (4, 4)])
def test_whole_passes_have_equal_parts_on_any_number_of_workers(tmp_path, rows, workers):
    """What is measured must not depend on how many measure; rows of zeros make the parts equal."""
    ids = stream(tmp_path, 60)
    whole = batches(contiguous(ids, rows, 7, whole=True))
    parts = [
        batches(contiguous(ids, rows, 7, whole=True, shard=(i, workers))) for i in range(workers)
    ]
    for k, pair in enumerate(whole):
        for side, wanted in enumerate(pair):
            shapes = {part[k][side].shape for part in parts}
            joined = np.concatenate([part[k][side] for part in parts])
            assert shapes == {(-(-rows // workers), wanted.shape[1])}
            np.testing.assert_array_equal(joined[:rows], wanted)
            assert not joined[rows:].any()


def test_a_second_pass_is_the_first_again(tmp_path):
    dataset = contiguous(stream(tmp_path, 60), 2, 5)
    assert as_lists(dataset) == as_lists(dataset)


@pytest.mark.parametrize("make", [contiguous, lambda *a, **k: shuffled(*a, seed=1, **k)])
def test_windows_that_cannot_be_are_refused(tmp_path, make):
    ids = stream(tmp_path, 59)
    assert refused(lambda: make(ids, 6, 10)) == (
        "text: expected at least 60 tokens (6 rows, windows of 10), got 59; "
        "give more text, fewer rows or a shorter window"
    )
    assert len(make(stream(tmp_path, 60), 6, 10)) == 1
    assert refused(lambda: make(ids, 0, 10)) == ("batch_size: expected 1 or more, got 0; raise it")
    assert refused(lambda: make(ids, 2, -1)) == "length: expected 1 or more, got -1; raise it"
    assert refused(lambda: make(ids, 5, 2, shard=(1, 3))) == (
        "batch_size: expected a multiple of the 3 workers, got 5; change it"
    )


# --- shuffled windows ---


def test_shuffled_windows_are_pieces_of_the_text_each_once(tmp_path):
    ids = stream(tmp_path, 103)
    found = batches(shuffled(ids, 4, 5, seed=1))
    inputs, targets = (np.concatenate(part) for part in zip(*found, strict=True))
    assert targets.shape == (16, 5)  # 19 windows at any offset, in whole batches of 4
    np.testing.assert_array_equal(np.diff(targets, axis=1), 1)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert set(inputs[:, 0]) == {2}
    begins = np.sort(targets[:, 0])
    assert 10 <= begins[0] and begins[-1] + 5 <= 113
    assert len(set(begins)) == 16 and set(begins % 5) == {begins[0] % 5}
    assert begins.tolist() != targets[:, 0].tolist()


def test_shuffling_follows_seed_and_epoch_alone(tmp_path):
    ids = stream(tmp_path, 400)

    def at(seed, epoch, batch=0):
        return as_lists(shuffled(ids, 4, 5, seed=seed, position=Position(epoch, batch)))

    assert at(1, 0) == at(1, 0) == as_lists(shuffled(ids, 4, 5, seed=1))
    assert at(1, 3) == at(1, 3)
    passes = [at(1, 0), at(1, 1), at(2, 0), at(2, 1)]
    assert all(a != b for a, b in itertools.combinations(passes, 2))
    assert at(1, 3, batch=6) == at(1, 3)[6:] != []


def test_shuffling_cuts_every_epoch_at_another_offset(tmp_path):
    ids = stream(tmp_path, 400)
    dataset, offsets = None, set()
    position = Position()
    dataset = shuffled(ids, 4, 5, seed=1, position=position)
    for position.epoch in range(12):
        offsets |= {int(x) % 5 for _, y in batches(dataset) for x in y[:, 0]}
    assert offsets == {0, 1, 2, 3, 4}


def test_shuffling_the_shortest_text_still_gives_a_batch(tmp_path):
    for n in (20, 21, 24, 25):
        found = batches(shuffled(stream(tmp_path, n), 4, 5, seed=3))
        assert len(found) == 1
        assert found[0][1].min() >= 10 and found[0][1].max() < 10 + n
