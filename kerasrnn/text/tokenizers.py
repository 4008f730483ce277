"""Tokenizers turn strings into ids and ids into strings, in the TensorFlow graph.

Reserved ids: 0 pad, 1 unknown, 2 start, 3 end. B batch, T tokens, V ids.
Every tokenizer has `pieces`, the string of each id. A `.keras` file holds a tokenizer as its
configuration. Invalid UTF-8 becomes U+FFFD.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
import struct
from collections import Counter
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from kerasrnn.base.choices import LEVELS
from kerasrnn.base.errors import InputError

PAD, UNKNOWN, START, END = 0, 1, 2, 3
MARK = "\ufffd"  # shown in place of an unknown character or word, and of invalid UTF-8
RESERVED = ("", MARK, "", "")
ENDED = "</s>"  # shown for the end of a source
LETTERS = r"\p{L}\x{2EBF0}-\x{2EE5D}"  # TensorFlow's RE2 does not know the letters of Unicode 15.1
IN_WORDS = rf"{LETTERS}\p{{M}}\p{{N}}_"
WORD_PATTERN = rf"[{IN_WORDS}]+(?:['’][{LETTERS}]+)*|[^{IN_WORDS}\s\p{{Z}}]|\n"
CLOSING, OPENING = set(".,;:!?)]}%…»”\n"), set("([{«“\n")


def valid_utf8(strings) -> tf.Tensor:
    """`strings` with every invalid UTF-8 sequence replaced by U+FFFD."""
    return tf.strings.unicode_transcode(strings, "UTF-8", "UTF-8", errors="replace")


def _batch(strings) -> tf.Tensor:
    """`strings` as a tensor [B] (InputError when it is a single string or nested)."""
    strings = tf.convert_to_tensor(strings, tf.string)
    if strings.shape.rank not in (1, None):
        raise InputError(
            "strings", "a list of strings", f"shape {strings.shape}", "put one string in brackets"
        )
    return strings


def _dense(ids) -> tf.Tensor:
    """Ids, ragged from `tokenize` or already padded, as a padded tensor [B, T]."""
    return ids.to_tensor(PAD) if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)


class Tokenizer(tf.Module):
    """The base class of the tokenizers: `pieces[id]` is the text of an id, reserved ids first.

    Attributes:
        pieces: the text of each id, a list of V strings; the four reserved are "", "�", "", "".
        level: "char", "word" or "subword".
    """

    level: str

    def __init__(self, pieces: list[str]):
        super().__init__()
        self.pieces = pieces

    @property
    def characters_per_id(self) -> list[int]:
        """How many characters of a text each id stands for, a list of V numbers."""
        return [len(piece) for piece in self.pieces]

    @property
    def size(self) -> int:
        """The number of ids V, with the four reserved ones."""
        return len(self.pieces)

    def tokenize(self, strings) -> tf.RaggedTensor:
        """Strings [B] -> ids, ragged int32 [B, (T)]; an unknown character or word becomes id 1."""
        raise NotImplementedError

    def split(self, strings) -> tf.RaggedTensor:
        """Strings [B] -> the text of each id of `tokenize`, ragged string [B, (T)].

        Characters and words, known or unknown, are as they stand in the string.
        """
        ids = self.tokenize(strings)
        return ids.with_flat_values(tf.gather(self.pieces, ids.flat_values))

    def detokenize(self, ids, unknown=None) -> tf.Tensor:
        """Ids, int [..., T] or ragged -> strings [...]; pad, start and end give no text.

        An unknown id becomes "�", or the string of `unknown` [..., T] at its place.
        """
        return tf.strings.reduce_join(self.texts(_dense(ids), unknown), axis=-1)

    def texts(self, ids, unknown) -> tf.Tensor:
        """The text of each id, string [..., T]; `unknown` as in `detokenize`."""
        pieces = tf.gather(self.pieces, ids)
        return pieces if unknown is None else tf.where(ids == UNKNOWN, unknown, pieces)

    @classmethod
    def from_config(cls, config: dict) -> Tokenizer:
        return cls(**config)


def _vocabulary(entries: list[str], argument: str) -> list[str]:
    """The entries as a list (InputError when one stands there twice)."""
    duplicates = sorted(entry for entry, n in Counter(entries).items() if n > 1)
    if duplicates:
        entry = f"{duplicates[0]!r} twice"
        raise InputError(argument, "each entry once", entry, "remove the double")
    return list(entries)


@keras.saving.register_keras_serializable(package="kerasrnn")
class CharTokenizer(Tokenizer):
    """One id for each Unicode character. Known characters come back from their ids byte for byte.

    Args:
        characters: the known characters; the first gets id 4.

    Raises:
        InputError: when a character stands there twice, or an entry is not one character.

    >>> tokenizer = CharTokenizer(["a", "b", "\\n"])
    >>> tokenizer.tokenize(["ab\\n", "ax"]).to_list()
    [[4, 5, 6], [4, 1]]
    >>> tokenizer.detokenize([[4, 5, 0], [4, 1, 3]]).numpy().tolist() == [b"ab", "a\ufffd".encode()]
    True
    """

    level = "char"

    def __init__(self, characters: list[str]):
        self.characters = _vocabulary(characters, "characters")
        invalid = [c for c in self.characters if len(c) != 1]
        if invalid:
            raise InputError("characters", "one character an entry", repr(invalid[0]), "split it")
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
            text_counts = np.bincount(points)
            counts[: len(text_counts)] += text_counts
        counts[ord(MARK)] = 0  # it replaces invalid UTF-8, so it stays unknown and is never drawn
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        return cls([chr(point) for point in order[:max_size]])

    def split(self, strings) -> tf.RaggedTensor:
        return tf.strings.unicode_split(_batch(strings), "UTF-8", errors="replace")

    def tokenize(self, strings) -> tf.RaggedTensor:
        points = tf.strings.unicode_decode(_batch(strings), "UTF-8", errors="replace")
        indices = tf.searchsorted(self._points, points.flat_values)
        is_known = tf.equal(tf.gather(self._points, indices), points.flat_values)
        return points.with_flat_values(tf.where(is_known, tf.gather(self._ids, indices), UNKNOWN))

    def get_config(self) -> dict:
        return {"characters": self.characters}


@keras.saving.register_keras_serializable(package="kerasrnn")
class WordTokenizer(Tokenizer):
    """One id for each word, punctuation mark or line break, as the RE2 pattern `WORD_PATTERN`.

    `detokenize` puts one space between words, and no space before closing or after opening
    punctuation. So several spaces in a row become one.

    Args:
        words: the known words; the first gets id 4.

    Raises:
        InputError: when a word stands there twice.

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
        # "" is never a word. It keeps the table from being empty where there are no words.
        ids = tf.constant([UNKNOWN, *range(len(RESERVED), self.size)], tf.int32)
        words_tensor = tf.constant(["", *self.words], tf.string)
        initial = tf.lookup.KeyValueTensorInitializer(words_tensor, ids)
        self.table = tf.lookup.StaticHashTable(initial, UNKNOWN)
        # Whether there is no space before a piece, and whether there is none after it.
        attached = [i in (PAD, START, END) for i in range(len(RESERVED))]
        self.joins_left = np.array(attached + [w in CLOSING for w in self.words])
        self.joins_right = np.array(attached + [w in OPENING for w in self.words])

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int | None = 30_000) -> WordTokenizer:
        """The words of `texts`, most frequent first, at most `max_size` of them."""
        counts, characters = Counter(), 0

        def megabyte(text: str) -> int:
            nonlocal characters
            characters += len(text)
            return characters >> 20

        for _, group in itertools.groupby(texts, megabyte):  # a call costs 30 ms for any length
            counts.update(cls.split(list(group)).flat_values.numpy().tolist())
        del counts[MARK.encode()]  # it replaces invalid UTF-8, so it stays unknown, never drawn
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[:max_size]
        return cls([word.decode() for word in ranked])

    @staticmethod
    def split(strings) -> tf.RaggedTensor:
        """Strings [B] -> words, ragged string [B, (T)]."""
        import tensorflow_text as text  # here, because importing it takes 1 s

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
        # The first word of a row stands after `START`, and so gets no space before it.
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
    """A serialized unigram model of at most `size` pieces, with our reserved ids."""
    import sentencepiece

    model = io.BytesIO()
    lines = (line for text in texts for line in text.replace(MARK, "").splitlines(keepends=True))
    # SentencePiece drops a line longer than 4192 bytes; 1000 characters have at most 4000.
    parts = (line[i : i + 1000] for line in lines for i in range(0, len(line), 1000))
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=parts,
            model_writer=model,
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
        required = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
        if required:
            expected = f"{required[1]} or more, one for each character"
            raise InputError("max_size", expected, size, "raise it") from error
        expected = "text to learn subwords from"
        raise InputError("texts", expected, "too little", "give more text") from error
    return model.getvalue()


def _without_log(model: bytes) -> bytes:
    """The model with a table of normalizations that has no entry, in place of no table.

    It does the same, but SentencePiece, inside TensorFlow, does not log that it has no table.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    if not proto.normalizer_spec.precompiled_charsmap:
        # The size of a double-array trie, the trie with no word in it, and no replacements.
        proto.normalizer_spec.precompiled_charsmap = struct.pack("<I", 1024) + bytes(1024 + 1)
    return proto.SerializeToString()


@keras.saving.register_keras_serializable(package="kerasrnn")
class SentencePieceTokenizer(Tokenizer):
    """Subwords of a SentencePiece model (Kudo & Richardson 2018), kept inside the configuration.

    Args:
        model: the serialized model. Its pad, unknown, start and end ids must be 0, 1, 2 and 3.

    Raises:
        InputError: when it is not a SentencePiece model, or reserves other ids.
    """

    level = "subword"

    def __init__(self, model: bytes):
        import sentencepiece

        self.model = model
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            expected, received = (
                "a serialized SentencePiece model",
                f"{len(model)} bytes that are none",
            )
            next_step = "give the contents of its .model file"
            raise InputError("model", expected, received, next_step) from error
        reserved = tuple(getattr(processor, f"{n}_id")() for n in ("pad", "unk", "bos", "eos"))
        if reserved != (PAD, UNKNOWN, START, END):
            expected = "pad, unknown, start and end at ids 0, 1, 2 and 3"
            next_step = "train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3"
            raise InputError("model", expected, reserved, next_step)
        self._silent_model = _without_log(model)
        ids = range(len(RESERVED), processor.get_piece_size())  # its pieces write a space as "▁"
        super().__init__([*RESERVED, *(processor.id_to_piece(i).replace("▁", " ") for i in ids)])

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int = 8_000) -> SentencePieceTokenizer:
        """Train a unigram model of at most `max_size` pieces. White space stays as it is.

        Raises:
            InputError: when there is too little text, or fewer pieces than characters.
        """
        return cls(_train_subwords(texts, max_size))

    def tokenize(self, strings) -> tf.RaggedTensor:
        import tensorflow_text as text

        # Made at every call, because `tf.random.set_seed` destroys the resource of a kept one.
        inner = text.SentencepieceTokenizer(model=self._silent_model, out_type=tf.int32)
        return inner.tokenize(valid_utf8(_batch(strings)))

    def get_config(self) -> dict:
        return {"model": base64.b64encode(self.model).decode()}

    @classmethod
    def from_config(cls, config: dict) -> SentencePieceTokenizer:
        return cls(base64.b64decode(config["model"]))


TOKENIZERS = dict(zip(LEVELS, (CharTokenizer, WordTokenizer, SentencePieceTokenizer), strict=True))
