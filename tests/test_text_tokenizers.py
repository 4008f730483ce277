"""Tokenizers: what comes back, what is unknown, and that the graph says the same as eager."""

import io
import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.text.tokenizers import (
    TOKENIZERS,
    CharTokenizer,
    SentencePieceTokenizer,
    WordTokenizer,
    valid_utf8,
)

ODD = [
    "two\r\nlines\n",
    "a NUL \0 inside\0",
    "👩‍👩‍👧 and 😀",
    "e\u0301 is not é",
    "private \ue000\U0010ffff",
    "a line\u2028a paragraph\u2029",
    "\ufeffa mark",
    "  two  spaces\t ",
    "日本語、です。",
]
ENGLISH = "".join(
    f"The {n} cats sat on the mat, didn't they?\n  Yes;\tthey did!\n" for n in range(90)
)


def texts_of(tensor) -> list[str]:
    return [t.decode() for t in tensor.numpy()]


@pytest.fixture(scope="module")
def subwords():
    return SentencePieceTokenizer.from_texts([ENGLISH], 60)


@pytest.fixture(scope="module")
def tokenizers(subwords):
    return {
        "char": CharTokenizer.from_texts([ENGLISH, *ODD]),
        "word": WordTokenizer.from_texts([ENGLISH]),
        "subword": subwords,
    }


# --- invalid bytes ---


@pytest.mark.parametrize(
    "raw, invalid",
    [
        (b"plain", 0),
        ("a written \ufffd".encode(), 0),
        (b"a\xffb\xfe", 2),
        (b"\xed\xa0\x80", 3),  # a surrogate
        (b"cut \xf0\x9f\x98", 1),  # the first three bytes of four
        (b"\xc0\xaf", 2),  # an overlong slash
        (b"", 0),
    ],
)
def test_invalid_bytes_are_replaced_as_python_does(raw, invalid):
    wanted = raw.decode("utf-8", "replace")
    assert wanted.count("\ufffd") == invalid + raw.count(b"\xef\xbf\xbd")
    assert texts_of(valid_utf8([raw])) == [wanted]
    tokenizer = CharTokenizer.from_texts([wanted.replace("\ufffd", "")])
    assert texts_of(tokenizer.detokenize(tokenizer.tokenize([raw]))) == [wanted]


# --- characters ---


@pytest.mark.parametrize("line", ODD, ids=ascii)
def test_known_characters_come_back_byte_for_byte(line):
    tokenizer = CharTokenizer.from_texts(ODD)
    ids = tokenizer.tokenize([line, "", line * 3])
    assert ids.dtype == tf.int32 and ids.row_lengths().numpy().tolist() == [
        len(line),
        0,
        3 * len(line),
    ]
    assert ids.flat_values.numpy().min() >= 4
    assert texts_of(tokenizer.detokenize(ids.to_tensor())) == [line, "", line * 3]


def test_characters_get_ids_in_the_order_given():
    tokenizer = CharTokenizer(["z", "😀", "a"])
    assert tokenizer.size == 7 and tokenizer.pieces == ["", "\ufffd", "", "", "z", "😀", "a"]
    assert tokenizer.tokenize(["az😀"]).to_list() == [[6, 4, 5]]


def test_an_unknown_character_is_one_visible_mark():
    tokenizer = CharTokenizer(["a", "b"])
    ids = tokenizer.tokenize(["a😀b\U0010ffff", "\0"])
    assert ids.to_list() == [[4, 1, 5, 1], [1]]
    assert texts_of(tokenizer.detokenize(ids)) == ["a\ufffdb\ufffd", "\ufffd"]


def test_pad_start_and_end_write_nothing():
    tokenizer = CharTokenizer(["a", "b"])
    assert texts_of(tokenizer.detokenize([[2, 4, 0, 5, 3, 0], [0, 0, 0, 0, 0, 0]])) == ["ab", ""]
    assert texts_of(tokenizer.detokenize(tf.zeros([2, 0], tf.int32))) == ["", ""]


def test_the_most_frequent_characters_come_first_and_ties_by_code_point():
    texts = ["bbb", "ccaa\n", "", "é"]
    assert list(CharTokenizer.from_texts(texts).characters) == ["b", "a", "c", "\n", "é"]
    assert list(CharTokenizer.from_texts(texts, 2).characters) == ["b", "a"]
    assert list(CharTokenizer.from_texts(reversed(texts)).characters)[:3] == ["b", "a", "c"]


def test_a_character_twice_or_too_long_is_refused():
    with pytest.raises(InputError) as error:
        CharTokenizer(["b", "a", "b"])
    assert (
        str(error.value) == "characters: expected each entry once, got 'b' twice; remove the double"
    )
    with pytest.raises(InputError) as error:
        CharTokenizer(["a", "bc"])
    assert str(error.value) == ("characters: expected one character an entry, got 'bc'; split it")


# --- words ---


def words_of(line: str) -> list[str]:
    return [w.decode() for w in WordTokenizer.split([line]).flat_values.numpy()]


@pytest.mark.parametrize(
    "line, words",
    [
        ("stop, don't  stop!", ["stop", ",", "don't", "stop", "!"]),
        ("l’été; the dogs' bones", ["l’été", ";", "the", "dogs", "'", "bones"]),
        ("a\r\nb\n\n c", ["a", "\n", "b", "\n", "\n", "c"]),
        ("日本語、です。", ["日本語", "、", "です", "。"]),
        ("e\u0301a under_score x2 3.14", ["e\u0301a", "under_score", "x2", "3", ".", "14"]),
        ("a\u00a0b\u3000c\u2028d\u2003e\tf", ["a", "b", "c", "d", "e", "f"]),
        ("😀!", ["😀", "!"]),
        ("before\0 after", ["before", "\ufffd", "after"]),
        (" \t ", []),
        ("", []),
    ],
)
def test_words_marks_and_line_breaks_are_told_apart(line, words):
    assert words_of(line) == words


def test_words_in_a_batch_keep_their_rows():
    tokenizer = WordTokenizer(["stop", ",", "don't", "\n"])
    ids = tokenizer.tokenize(["stop,\ngo", "", b"don't \xff"])
    assert ids.dtype == tf.int32
    assert ids.to_list() == [[4, 5, 7, 1], [], [6, 1]]


@pytest.mark.parametrize(
    "line",
    [
        "Stop, he said (twice): “no!”",
        "one\ntwo\n\nthree",
        "wait… what? [sic]",
        "don't",
        "",
    ],
)
def test_well_set_text_comes_back(line):
    tokenizer = WordTokenizer.from_texts([line])
    assert texts_of(tokenizer.detokenize(tokenizer.tokenize([line, line]))) == [line, line]


def test_spaces_stand_between_words_only():
    tokenizer = WordTokenizer(["a", ",", "(", ")", "\n"])
    written = tokenizer.detokenize([[4, 4, 5, 4], [6, 4, 7, 4], [4, 8, 4, 0], [2, 4, 1, 3]])
    assert texts_of(written) == ["a a, a", "(a) a", "a\na", "a \ufffd"]
    assert texts_of(tokenizer.detokenize(tf.zeros([2, 0], tf.int64))) == ["", ""]


def test_the_most_frequent_words_come_first_and_ties_in_byte_order():
    texts = ["b a b", "c é", "a b d"]
    assert list(WordTokenizer.from_texts(texts).words) == ["b", "a", "c", "d", "é"]
    assert list(WordTokenizer.from_texts(texts, 3).words) == ["b", "a", "c"]
    assert list(WordTokenizer.from_texts(texts[::-1], 3).words) == ["b", "a", "c"]


def test_a_word_twice_is_refused():
    with pytest.raises(InputError) as error:
        WordTokenizer(["a", "a"])
    assert str(error.value) == "words: expected each entry once, got 'a' twice; remove the double"


@pytest.mark.parametrize("kind", [CharTokenizer, WordTokenizer])
def test_a_text_without_anything_gives_a_tokenizer_that_knows_nothing(kind):
    tokenizer = kind.from_texts([""])
    assert tokenizer.size == 4
    assert tokenizer.tokenize(["a", ""]).to_list() == [[1], []]
    assert texts_of(tokenizer.detokenize([[1, 0]])) == ["\ufffd"]


# --- subwords ---


@pytest.mark.parametrize(
    "line", ["The cats sat", "  they  did \n\n\tsat", "\n", " ", "", "sat\n", "mat?  "], ids=repr
)
def test_subwords_come_back_with_their_white_space(subwords, line):
    ids = subwords.tokenize([line, "The cats"])
    assert ids.dtype == tf.int32
    assert 1 not in ids.flat_values.numpy()
    assert texts_of(subwords.detokenize(ids)) == [line, "The cats"]


def test_subwords_are_larger_than_characters_and_never_hold_a_line_break(subwords):
    ids = subwords.tokenize([ENGLISH]).to_list()[0]
    assert 4 < subwords.size <= 60 and len(ids) < 0.7 * len(ENGLISH)
    assert [p for p in subwords.pieces if "\n" in p] == ["\n"]
    assert texts_of(subwords.detokenize([ids])) == [ENGLISH]
    assert "".join(subwords.pieces[i] for i in ids) == ENGLISH


@pytest.mark.parametrize("rule", ["identity", "nfkc"])
def test_a_model_normalizes_as_it_says_and_logs_nothing(rule, capfd):
    text = "five foxes jump over the \ufb01ve lazy dogs"
    options = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "minloglevel": 2}
    options |= {"vocab_size": 30, "hard_vocab_limit": False, "normalization_rule_name": rule}
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text] * 9), model_writer=model, **options
    )
    texts = ["\ufb01ve", "a  b", "", "\0", "e\u0301 \u65e5"]
    ids = SentencePieceTokenizer(model.getvalue()).tokenize(texts).to_list()
    assert capfd.readouterr() == ("", "")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert ids == processor.encode(texts)


def test_what_no_subword_covers_is_visible(subwords):
    ids = subwords.tokenize(["The 😀 mat", b"The \xff mat"])
    assert texts_of(subwords.detokenize(ids)) == ["The \ufffd mat"] * 2


def test_one_long_line_is_text_enough_to_train_on():
    line = " ".join(ENGLISH.split())
    assert len(line) > 4192  # what SentencePiece drops as too long
    tokenizer = SentencePieceTokenizer.from_texts([line], 60)
    assert texts_of(tokenizer.detokenize(tokenizer.tokenize([line]))) == [line]


def test_no_text_and_too_few_subwords_are_refused():
    with pytest.raises(InputError) as error:
        SentencePieceTokenizer.from_texts([""], 100)
    assert str(error.value) == (
        "texts: expected text to learn subwords from, got too little; give more text"
    )
    with pytest.raises(InputError) as error:
        SentencePieceTokenizer.from_texts([ENGLISH], 10)
    characters = len(set(ENGLISH) - {"\n"})
    assert str(error.value) == (
        f"max_size: expected {characters + 5} or more, one for each character, got 10; raise it"
    )


def test_a_model_with_other_reserved_ids_or_of_another_kind_is_refused(tmp_path):
    import sentencepiece

    path = tmp_path / "text.txt"
    path.write_text(ENGLISH)
    sentencepiece.SentencePieceTrainer.train(
        input=str(path), model_prefix=str(tmp_path / "m"), vocab_size=40, minloglevel=2
    )
    with pytest.raises(InputError) as error:
        SentencePieceTokenizer((tmp_path / "m.model").read_bytes())
    assert str(error.value) == (
        "model: expected pad, unknown, start and end at ids 0, 1, 2 and 3, got (-1, 0, 1, 2); "
        "train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3"
    )
    with pytest.raises(InputError) as error:
        SentencePieceTokenizer(b"junk")
    assert str(error.value) == (
        "model: expected a serialized SentencePiece model, got 4 bytes that are none; "
        "give the contents of its .model file"
    )


# --- all three ---


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_tokenizer_comes_back_from_its_configuration(tokenizers, level):
    tokenizer = tokenizers[level]
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(tokenizer)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is TOKENIZERS[level] and again.level == level
    assert list(again.pieces) == list(tokenizer.pieces)
    lines = [*ODD, ENGLISH[:200]]
    ids = tokenizer.tokenize(lines)
    assert again.tokenize(lines).to_list() == ids.to_list()
    assert texts_of(again.detokenize(ids)) == texts_of(tokenizer.detokenize(ids))


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_graph_and_eager_agree(tokenizers, level):
    tokenizer = tokenizers[level]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(strings):
        ids = tokenizer.tokenize(strings).to_tensor()
        return ids, tokenizer.detokenize(ids)

    for lines in ([*ODD, "", b"The \xff cats"], [""], []):
        ids, back = there_and_back(tf.constant(lines, tf.string))
        eager = tokenizer.tokenize(lines)
        np.testing.assert_array_equal(ids, eager.to_tensor())
        assert back.numpy().tolist() == tokenizer.detokenize(eager).numpy().tolist()


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_one_string_in_place_of_a_list_is_refused(tokenizers, level):
    with pytest.raises(InputError) as error:
        tokenizers[level].tokenize("The cats")
    assert str(error.value) == (
        "strings: expected a list of strings, got shape (); put one string in brackets"
    )


def padded_ids(tokenizer):
    return tf.function(
        lambda strings: tokenizer.tokenize(strings).to_tensor(),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_tokenizer_outlives_a_new_seed(tokenizers, level):
    # The kernels that TensorFlow forgets with each new seed take their resources with them.
    traced = padded_ids(tokenizers[level])
    before = traced(tf.constant(["The cats"])).numpy().tolist()
    keras.utils.set_random_seed(8)
    assert tokenizers[level].tokenize(["The cats"]).to_list() == before
    assert traced(tf.constant(["The cats"])).numpy().tolist() == before


def test_saved_models_run_without_us_in_another_process(tokenizers, tmp_path):
    lines = ["The cats sat.\n", "", "é\0 日本 didn't", ENGLISH[:300]]
    for level, tokenizer in tokenizers.items():
        module = tf.Module()
        module.tokenizer = tokenizer
        module.ids = padded_ids(tokenizer)
        module.text = tf.function(
            tokenizer.detokenize, input_signature=[tf.TensorSpec([None, None], tf.int32)]
        )
        tf.saved_model.save(module, tmp_path / level)
    program = """
        import json, sys
        import tensorflow as tf
        folder, lines, found = sys.argv[1], json.loads(sys.argv[2]), {}
        for level in ("char", "word", "subword"):
            if level == "word":
                import tensorflow_text
            module = tf.saved_model.load(f"{folder}/{level}")
            ids = module.ids(tf.constant(lines))
            text = [t.decode() for t in module.text(ids).numpy()]
            found[level] = [ids.numpy().tolist(), text]
        assert not any(name.startswith("kerasrnn") for name in sys.modules)
        print(json.dumps(found))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), json.dumps(lines)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    for level, tokenizer in tokenizers.items():
        ids = tokenizer.tokenize(lines)
        assert found[level] == [
            ids.to_tensor().numpy().tolist(),
            texts_of(tokenizer.detokenize(ids)),
        ]


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_what_was_replaced_never_enters_a_vocabulary(level):
    texts = ["one \ufffd two \ufffd three\n"] * 30
    kind = {"char": CharTokenizer, "word": WordTokenizer, "subword": SentencePieceTokenizer}[level]
    tokenizer = kind.from_texts(texts, 20)
    assert [i for i, piece in enumerate(tokenizer.pieces) if "\ufffd" in piece] == [1]
    assert 1 in tokenizer.tokenize(["two \ufffd"]).to_list()[0]


def test_characters_of_ids_add_up_to_the_text():
    text = "one two, three\none four!"
    words = WordTokenizer.from_texts([text])
    ids = words.tokenize([text]).to_list()[0]
    assert sum(words.characters_per_id[i] for i in ids) == len(text) + 2  # begins a line: counted
    letters = CharTokenizer.from_texts([text])
    assert sum(letters.characters_per_id[i] for i in letters.tokenize([text]).to_list()[0]) == len(
        text
    )


def test_a_vocabulary_of_many_short_texts_is_made_in_few_calls(monkeypatch):
    calls, split = [], WordTokenizer.split
    monkeypatch.setattr(WordTokenizer, "split", lambda some: calls.append(some) or split(some))
    texts = ["one two two"] * 2000 + ["one " * (1 << 18)] * 3 + ["three"]
    assert WordTokenizer.from_texts(iter(texts)).words == ["one", "two", "three"]
    assert sum(calls, []) == texts and len(calls) <= 4


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_words_are_the_same_in_both_runtimes_whatever_the_character(every):
    """Two libraries of regular expressions, perhaps of two versions of Unicode."""
    import onnxruntime

    from kerasrnn.export.graphs.text import PADDING, graph_of
    from kerasrnn.text.parts import Tokenize

    graph = graph_of(Tokenize(WordTokenizer(["a", "b"]), "x"))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    points = [p for p in range(1, 0x110000, every) if not 0xD800 <= p < 0xE000]
    texts = [" ".join(f"a{chr(p)}b" for p in points[i : i + 32]) for i in range(0, len(points), 32)]
    ours = WordTokenizer.split(texts).row_lengths().numpy()
    theirs = session.run(["x_parts"], {"x": np.array(texts, object)})[0]
    different = np.flatnonzero(ours != (theirs != PADDING).sum(axis=1))
    assert [ascii(texts[i]) for i in different] == []
