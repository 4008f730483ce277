"""Files as lines: only line feeds end them, and what is too long is not held."""

import gzip

import pytest

from kerasrnn.pipelines import reading
from kerasrnn.pipelines.reading import LONGEST, lines


@pytest.fixture(params=[1, 2, 3, 7, 1 << 20])
def block(request, monkeypatch):
    """The bytes read at once."""
    monkeypatch.setattr(reading.blocks, "__defaults__", ("text", request.param))
    return request.param


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_only_line_feeds_end_lines_whatever_the_block(tmp_path, block, end, last):
    texts = ["first", "a\u2028b", "\ufeffc\x0b\x0c", "d\x85e", "f\rg", "", " 日本 😀 ", "\tt", "z"]
    content = ("\ufeff" + end.join(texts) + end * last).encode()
    for name, written in (("plain", content), ("packed", gzip.compress(content))):
        (tmp_path / name).write_bytes(written)
        assert [line.decode() for line in lines(tmp_path / name)] == texts


@pytest.mark.parametrize("content", ["", "\ufeff", "\n", "\ufeff\r\n", "\r"])
def test_what_is_almost_nothing_has_at_most_one_line(tmp_path, block, content):
    (tmp_path / "t").write_bytes(content.encode())
    wanted = {"": [], "\r": [b"\r"]}.get(content, [b""])
    assert list(lines(tmp_path / "t")) == wanted


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 9, 3 * LONGEST])
@pytest.mark.parametrize("size", [999, 1 << 20])
def test_a_line_is_whole_or_longer_than_the_longest(tmp_path, monkeypatch, length, size):
    monkeypatch.setattr(reading.blocks, "__defaults__", ("text", size))
    content = bytes(65 + n % 26 for n in range(length))
    (tmp_path / "t").write_bytes(b"\xef\xbb\xbf" + content + b"\r\nnext\n")
    long, after = lines(tmp_path / "t")
    assert after == b"next"
    assert long == content or len(long) > LONGEST < length
