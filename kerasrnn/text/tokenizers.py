"""Tokenizers: strings <-> ids, in the graph, both ways.

Reserved ids: 0 pad, 1 unknown, 2 start, 3 end. B batch, T tokens.
Every tokenizer has `pieces`, the string of each id, and is saved inside `.keras` files by its
configuration. Invalid UTF-8 becomes U+FFFD.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError

PAD, UNKNOWN, START, END = 0, 1, 2, 3
MARK = "\ufffd"  # how what is unknown or was not UTF-8 is shown
RESERVED = ("", MARK, "", "")
ENDED = "</s>"  # how the end of a source is shown
LETTERS = r"\p{L}\x{2EBF0}-\x{2EE5D}"  # those of Unicode 15.1 are none to TensorFlow's RE2
IN_WORDS = rf"{LETTERS}\p{{M}}\p{{N}}_"
WORD_PATTERN = rf"[{IN_WORDS}]+(?:['’][{LETTERS}]+)*|[^{IN_WORDS}\s\p{{Z}}]|\n"
CLOSING, OPENING = set(".,;:!?)]}%…»”\n"), set("([{«“\n")


def valid_utf8(strings) -> tf.Tensor:
    """`strings` with every invalid UTF-8 sequence replaced by U+FFFD."""
    return tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")


def _batch(strings) -> tf.Tensor:
    """`strings` as a tensor [B] (InputError when it is one string or nested)."""
    strings = tf.convert_to_tensor(strings, tf.string)
    if strings.shape.rank not in (1, None):
        raise InputError(
            "strings", "a list of strings", f"shape {strings.shape}", "put one string in brackets"
        )
    return strings


def _dense(ids) -> tf.Tensor:
    """Ids as `tokenize` gives them, or already padded, as a tensor [B, T]."""
    return ids.to_tensor(PAD) if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)


class Tokenizer(tf.Module):
    """What every tokenizer is: `pieces[id]` is the text of an id, reserved ids first.

    Attributes:
        pieces: the text of each id; the four reserved ones are "", "�", "", "".
        level: "char", "word" or "subword".
    """

    level: str

    def __init__(self, pieces: list[str]):
        super().__init__()
        self.pieces = pieces

    @property
    def characters_per_id(self) -> list[int]:
        """How many characters of a text each id stands for, [V]."""
        return [len(piece) for piece in self.pieces]

    @property
    def size(self) -> int:
        """Number of ids, the four reserved ones included."""
        return len(self.pieces)

    def tokenize(self, strings) -> tf.RaggedTensor:
        """Strings [B] -> ids, ragged int32 [B, (T)]; what is not known becomes 1."""
        raise NotImplementedError

    def split(self, strings) -> tf.RaggedTensor:
        """Strings [B] -> the text behind each id of `tokenize`, ragged string [B, (T)].

        Characters and words are the string's own, also where they are unknown.
        """
        ids = self.tokenize(strings)
        return ids.with_flat_values(tf.gather(self.pieces, ids.flat_values))

    def detokenize(self, ids, unknown=None) -> tf.Tensor:
        """Ids, int [..., T] or ragged -> strings [...]; pad, start and end vanish.

        An unknown id becomes the string of `unknown` [..., T] at its place, by default "�".
        """
        return tf.strings.reduce_join(self.texts(_dense(ids), unknown), axis=-1)

    def texts(self, ids, unknown) -> tf.Tensor:
        """The text of each id, string [..., T]."""
        known = tf.gather(self.pieces, ids)
        return known if unknown is None else tf.where(ids == UNKNOWN, unknown, known)

    @classmethod
    def from_config(cls, config: dict) -> Tokenizer:
        return cls(**config)


def _vocabulary(entries: list[str], argument: str) -> list[str]:
    doubled = sorted(entry for entry, n in Counter(entries).items() if n > 1)
    if doubled:
        raise InputError(argument, "each entry once", f"{doubled[0]!r} twice", "remove the double")
    return list(entries)


@keras.saving.register_keras_serializable(package="kerasrnn")
class CharTokenizer(Tokenizer):
    """One id per Unicode character; the round trip of known characters is byte-exact.

    Args:
        characters: the known characters; the first gets id 4.

    Raises:
        InputError: when a character stands twice or an entry is not one character.

    >>> tokenizer = CharTokenizer(["a", "b", "\\n"])
    >>> tokenizer.tokenize(["ab\\n", "ax"]).to_list()
    [[4, 5, 6], [4, 1]]
    >>> tokenizer.detokenize([[4, 5, 0], [4, 1, 3]]).numpy().tolist() == [b"ab", "a\ufffd".encode()]
    True
    """

    level = "char"

    def __init__(self, characters: list[str]):
        self.characters = _vocabulary(characters, "characters")
        long = [c for c in self.characters if len(c) != 1]
        if long:
            raise InputError("characters", "one character an entry", repr(long[0]), "split it")
        super().__init__([*RESERVED, *self.characters])
        points = np.array([ord(c) for c in self.characters], np.int32)
        order = np.argsort(points)
        # A sentinel after the last character keeps every search inside the table.
        self._points = np.append(points[order], np.int32(0x7FFFFFFF))
        self._ids = np.append(order.astype(np.int32) + len(RESERVED), np.int32(UNKNOWN))

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int | None = None) -> CharTokenizer:
        """The characters of `texts`, most frequent first, at most `max_size` of them."""
        counts = np.zeros(0x110000, np.int64)
        for text in texts:
            points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            seen = np.bincount(points)
            counts[: len(seen)] += seen
        counts[ord(MARK)] = 0  # what was replaced is unknown, never drawn
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        return cls([chr(point) for point in order[:max_size]])

    def split(self, strings) -> tf.RaggedTensor:
        return tf.strings.unicode_split(_batch(strings), "UTF-8", errors="replace")

    def tokenize(self, strings) -> tf.RaggedTensor:
        points = tf.strings.unicode_decode(_batch(strings), "UTF-8", errors="replace")
        place = tf.searchsorted(self._points, points.flat_values)
        known = tf.equal(tf.gather(self._points, place), points.flat_values)
        return points.with_flat_values(tf.where(known, tf.gather(self._ids, place), UNKNOWN))

    def get_config(self) -> dict:
        return {"characters": self.characters}


@keras.saving.register_keras_serializable(package="kerasrnn")
class WordTokenizer(Tokenizer):
    """One id per word, punctuation mark or line break: what the RE2 pattern `WORD_PATTERN` finds.

    `detokenize` puts one space between words and none before closing or after opening
    punctuation, so runs of spaces do not survive the round trip.

    Args:
        words: the known words; the first gets id 4.

    Raises:
        InputError: when a word stands twice.

    >>> tokenizer = WordTokenizer(["stop", ",", "don't", "!"])
    >>> ids = tokenizer.tokenize(["stop, don't  stop!", "go!"])
    >>> ids.to_list()
    [[4, 5, 6, 4, 7], [1, 7]]
    >>> tokenizer.detokenize(ids.to_tensor()).numpy()[0]
    b"stop, don't stop!"
    """

    level = "word"

    def __init__(self, words: list[str]):
        self.words = _vocabulary(words, "words")
        super().__init__([*RESERVED, *self.words])
        # No word is "": it keeps the table of an empty vocabulary from being empty.
        ids = tf.constant([UNKNOWN, *range(len(RESERVED), self.size)], tf.int32)
        known = tf.constant(["", *self.words], tf.string)
        initial = tf.lookup.KeyValueTensorInitializer(known, ids)
        self.table = tf.lookup.StaticHashTable(initial, UNKNOWN)
        # Whether a piece takes a space before it, and leaves room for one after it.
        attached = [i in (PAD, START, END) for i in range(len(RESERVED))]
        self.joins_left = np.array(attached + [w in CLOSING for w in self.words])
        self.joins_right = np.array(attached + [w in OPENING for w in self.words])

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int | None = 30_000) -> WordTokenizer:
        """The words of `texts`, most frequent first, at most `max_size` of them."""
        counts, seen = Counter(), 0

        def mebi(text: str) -> int:
            nonlocal seen
            seen += len(text)
            return seen >> 20

        for _, some in itertools.groupby(texts, mebi):  # a call costs 30 ms, however short its text
            counts.update(cls.split(list(some)).flat_values.numpy().tolist())
        del counts[MARK.encode()]  # what was replaced is unknown, never drawn
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[:max_size]
        return cls([word.decode() for word in ranked])

    @staticmethod
    def split(strings) -> tf.RaggedTensor:
        """Strings [B] -> words, ragged string [B, (T)]."""
        import tensorflow_text as text  # 1 s to import, and only this level needs it here

        # `regex_split` would drop all that follows a NUL.
        strings = tf.strings.regex_replace(valid_utf8(_batch(strings)), r"\x00", RESERVED[UNKNOWN])
        parts = text.regex_split(strings, WORD_PATTERN, WORD_PATTERN)
        return tf.ragged.boolean_mask(
            parts,
            parts.with_flat_values(tf.strings.regex_full_match(parts.flat_values, WORD_PATTERN)),
        )

    def tokenize(self, strings) -> tf.RaggedTensor:
        words = self.split(strings)
        return words.with_flat_values(self.table.lookup(words.flat_values))

    def texts(self, ids, unknown) -> tf.Tensor:
        before = tf.concat(
            [tf.fill(tf.shape(ids[..., :1]), tf.cast(START, ids.dtype)), ids[..., :-1]], -1
        )
        joined = tf.gather(self.joins_left, ids) | tf.gather(self.joins_right, before)
        words = super().texts(ids, unknown)
        return tf.where(joined, words, " " + words)

    @property
    def characters_per_id(self) -> list[int]:
        # With the space that `detokenize` writes before a word.
        spaces = (~self.joins_left).astype(int).tolist()
        return [len(piece) + space for piece, space in zip(self.pieces, spaces, strict=True)]

    def get_config(self) -> dict:
        return {"words": self.words}


def _train_subwords(texts: Iterable[str], size: int) -> bytes:
    """A serialized unigram model of at most `size` pieces, ours the reserved ids."""
    import sentencepiece

    written = io.BytesIO()
    lines = (line for text in texts for line in text.replace(MARK, "").splitlines(keepends=True))
    # SentencePiece drops what is longer than 4192 bytes.
    parts = (line[i : i + 1000] for line in lines for i in range(0, len(line), 1000))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=parts,
            model_writer=written,
            vocab_size=size,
            hard_vocab_limit=False,
            **{"pad_id": PAD, "unk_id": UNKNOWN, "bos_id": START, "eos_id": END},
            user_defined_symbols=["\n"],
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            character_coverage=1.0,
            input_sentence_size=1_000_000,
            minloglevel=2,
        )
    except RuntimeError as error:
        needed = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        if needed:
            expected = f"{needed[1]} or more, one for each character"
            raise InputError("max_size", expected, size, "raise it") from error
        expected = "text to learn subwords from"
        raise InputError("texts", expected, "too little", "give more text") from error
    return written.getvalue()


@keras.saving.register_keras_serializable(package="kerasrnn")
class SentencePieceTokenizer(Tokenizer):
    """Subwords of a SentencePiece model (Kudo & Richardson 2018), which travels inside.

    Args:
        model: the serialized model, whose reserved ids must be ours (0 to 3).

    Raises:
        InputError: when the model reserves other ids.
    """

    level = "subword"

    def __init__(self, model: bytes):
        import sentencepiece

        self.model = model
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise InputError(
                "model",
                "a serialized SentencePiece model",
                f"{len(model)} bytes that are none",
                "give the contents of its .model file",
            ) from error
        reserved = tuple(getattr(processor, f"{n}_id")() for n in ("pad", "unk", "bos", "eos"))
        if reserved != (PAD, UNKNOWN, START, END):
            raise InputError(
                "model",
                "pad, unknown, start and end at ids 0, 1, 2 and 3",
                reserved,
                "train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3",
            )
        known = range(len(RESERVED), processor.get_piece_size())
        super().__init__([*RESERVED, *(processor.id_to_piece(i).replace("▁", " ") for i in known)])

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int = 8_000) -> SentencePieceTokenizer:
        """Train a unigram model of at most `max_size` pieces; white space is kept as it is.

        Raises:
            InputError: when there is no text, or too few pieces for its characters.
        """
        return cls(_train_subwords(texts, max_size))

    def tokenize(self, strings) -> tf.RaggedTensor:
        import tensorflow_text as text

        # Made anew, because `tf.random.set_seed` destroys the resource of one that is kept.
        inner = text.SentencepieceTokenizer(model=self.model, out_type=tf.int32)
        return inner.tokenize(valid_utf8(_batch(strings)))

    def get_config(self) -> dict:
        return {"model": base64.b64encode(self.model).decode()}

    @classmethod
    def from_config(cls, config: dict) -> SentencePieceTokenizer:
        return cls(base64.b64decode(config["model"]))


TOKENIZERS = {"char": CharTokenizer, "word": WordTokenizer, "subword": SentencePieceTokenizer}
