"""Tokenizers: strings <-> ids, as graph code both ways."""

from kerasrnn.text.tokenizers import (
    END,
    PAD,
    START,
    TOKENIZERS,
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordTokenizer,
)

__all__ = [
    "END",
    "PAD",
    "START",
    "TOKENIZERS",
    "UNKNOWN",
    "CharTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WordTokenizer",
]
