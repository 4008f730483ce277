"""Word vectors: every format people have, what was found, and what the rest gets."""

import gzip

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.builtin import write_topics
from kerasrnn.pipelines.embeddings import load_vectors
from kerasrnn.text.tokenizers import WordTokenizer

pytest.importorskip("gensim")

TABLE = {
    "the": [0.25, -1.5, 2.0],
    "paris": [3.0, 0.5, -0.75],
    "Paris": [-2.5, 1.0, 4.0],
    "été": [1e-05, 7.0, 0.125],
    ",": [5.0, 6.0, -8.0],
}
WORDS = ["The", "Paris", "été", "unheard", "PARIS", ","]
PIECES = WordTokenizer(WORDS).pieces
# Row of each piece: reserved four, then the words; None has no vector.
NAMES = [None] * 4 + ["the", "Paris", "été", None, "paris", ","]


def lines(table=TABLE) -> str:
    return "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in table.items())


def glove(path):
    path.write_text(lines(), encoding="utf-8")


def word2vec_text(path):
    path.write_text(f"{len(TABLE)} 3\n" + lines(), encoding="utf-8")


def gensim_vectors():
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(3)
    vectors.add_vectors(list(TABLE), np.array(list(TABLE.values()), np.float32))
    return vectors


def word2vec_by_gensim(path):
    gensim_vectors().save_word2vec_format(str(path), binary=False)


def word2vec_binary(path):
    gensim_vectors().save_word2vec_format(str(path), binary=True)


def packed(write):
    def write_packed(path):
        write(path.with_suffix(".txt"))
        path.write_bytes(gzip.compress(path.with_suffix(".txt").read_bytes()))

    write_packed.__name__ = f"{write.__name__}_gz"
    return write_packed


WRITERS = [glove, word2vec_text, word2vec_by_gensim, word2vec_binary]
WRITERS = [(w, "vectors.txt") for w in WRITERS] + [(packed(w), "vectors.gz") for w in WRITERS]


def refused(*arguments) -> str:
    with pytest.raises(InputError) as error:
        load_vectors(*arguments)
    return str(error.value)


@pytest.mark.parametrize("write, name", WRITERS, ids=lambda w: getattr(w, "__name__", ""))
def test_every_format_gives_the_same_rows(tmp_path, write, name):
    write(tmp_path / name)
    vectors = load_vectors(tmp_path / name, PIECES)
    assert vectors.matrix.shape == (10, 3) and vectors.matrix.dtype == np.float32
    assert vectors.found.tolist() == [name is not None for name in NAMES]
    for row, name in zip(vectors.matrix, NAMES, strict=True):
        if name is not None:
            np.testing.assert_allclose(row, np.float32(TABLE[name]), rtol=1e-6)
    assert str(vectors) == "5 of 6 words found, 3 numbers each"


@pytest.mark.parametrize("size", [1, 3, 300, 2000])
def test_binary_and_text_are_told_apart_at_any_width(tmp_path, size):
    from gensim.models import KeyedVectors

    wanted = np.random.default_rng(0).normal(size=(9, size)).astype(np.float32)
    vectors = KeyedVectors(size)
    vectors.add_vectors([f"w{i}" for i in range(9)], wanted)
    for binary in (False, True):
        vectors.save_word2vec_format(str(tmp_path / "v"), binary=binary)
        found = load_vectors(tmp_path / "v", ["", "", "", "", *(f"w{i}" for i in range(9))])
        np.testing.assert_allclose(found.matrix[4:], wanted, rtol=1e-6)


def test_a_text_file_in_another_encoding_is_still_text(tmp_path):
    path = tmp_path / "v"
    path.write_bytes(f"{len(TABLE)} 3\n{lines()}".encode("latin-1"))
    vectors = load_vectors(path, PIECES)
    assert vectors.found.tolist() == [n not in (None, "été") for n in NAMES]


def test_pad_is_zero_and_the_rest_is_noise_like_the_vectors_found(tmp_path):
    random = np.random.default_rng(1)
    table = {f"w{i}": random.normal(2.0, 0.5, 40) for i in range(200)}
    path = tmp_path / "v"
    path.write_text(lines(table))
    pieces = WordTokenizer([*table, *(f"unheard{i}" for i in range(200))]).pieces
    first, again, other = (load_vectors(path, pieces, seed=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert not first.matrix[0].any()
    missing = ~first.found
    assert missing.sum() == 204 and missing[:4].all()
    assert (first.matrix[missing][1:] != other.matrix[missing][1:]).all()
    np.testing.assert_array_equal(first.matrix[first.found], other.matrix[first.found])
    noise = first.matrix[missing][1:]
    assert noise.mean() == pytest.approx(2.0, abs=0.03)
    assert noise.std() == pytest.approx(0.5, abs=0.03)
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_a_reserved_piece_is_never_looked_up(tmp_path):
    path = tmp_path / "v"
    path.write_text("\ufffd 7.0 8.0\nthe 1.0 2.0\n", encoding="utf-8")
    vectors = load_vectors(path, WordTokenizer(["the"]).pieces)
    assert vectors.found.tolist() == [False] * 4 + [True]
    assert vectors.matrix[1].tolist() != [7.0, 8.0]


def test_files_that_are_none_are_named(tmp_path):
    missing, prose, empty = tmp_path / "missing", tmp_path / "prose", tmp_path / "empty"
    prose.write_text("This is a line.\nAnd this, a longer one of words.\n")
    empty.write_text("")
    assert refused(missing, PIECES) == (
        f"embeddings: expected a GloVe or word2vec file, got {missing} "
        f"([Errno 2] No such file or directory: '{missing}'); check the file"
    )
    assert refused(empty, PIECES) == (
        f"embeddings: expected a GloVe or word2vec file, got {empty} (it is empty); check the file"
    )
    for path in (prose, tmp_path):
        message = refused(path, PIECES)
        assert message.startswith(f"embeddings: expected a GloVe or word2vec file, got {path} (")
        assert message.endswith("); check the file") and "\n" not in message


@pytest.mark.parametrize("binary", [False, True])
def test_a_file_that_was_cut_is_named(tmp_path, binary):
    path = tmp_path / "v"
    gensim_vectors().save_word2vec_format(str(path), binary=binary)
    path.write_bytes(path.read_bytes()[:-5])
    assert refused(path, PIECES).startswith(
        f"embeddings: expected a GloVe or word2vec file, got {path} ("
    )


def test_vectors_of_other_words_are_refused(tmp_path):
    glove(tmp_path / "v")
    assert refused(tmp_path / "v", ["", "", "", "", "x", "y"]) == (
        f"embeddings: expected vectors of the model's words, got none in {tmp_path / 'v'}; "
        "use --level word"
    )


def test_the_built_in_text_is_english_and_always_the_same(tmp_path):
    path = write_topics(tmp_path / "topics.txt")
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "topics.txt" and 300_000 < len(text) < 1_000_000
    assert "The assert statement" in text or "assert statement" in text
    assert "\r" not in text and "\ufffd" not in text
    again = write_topics(str(tmp_path / "again.txt"))
    assert again.read_bytes() == path.read_bytes()
