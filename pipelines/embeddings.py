"""Reads word vectors from GloVe or word2vec files into a matrix for a tokenizer's vocabulary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.reading import LONGEST, TIMES
from kerasrnn.text.tokenizers import RESERVED


@dataclass(frozen=True)
class Vectors:
    """A matrix float32 [V, D], and which of its rows came from the file, bool [V]."""

    matrix: np.ndarray
    found: np.ndarray

    def __str__(self) -> str:
        count, width = len(self.found) - len(RESERVED), self.matrix.shape[1]
        return f"{int(self.found.sum()):,} of {count:,} words found, {width} numbers each"


def _format(path: Path) -> dict:
    """Options to read the file: whether it is binary, and has word2vec's header "count size"."""
    from smart_open import open as unpack  # gensim uses it too, for .gz and similar files

    with unpack(path, "rb") as file:
        header, block = file.readline(LONGEST), file.read(4096)
    if not header:
        raise ValueError("it is empty")
    fields = header.split()
    has_header = len(fields) == 2 and all(f.isdigit() for f in fields)
    # A false header would make gensim reserve any amount of memory.
    if has_header and int(fields[0]) * int(fields[1]) > TIMES * path.stat().st_size:
        raise ValueError("it is shorter than it says")
    # In a text file, numbers follow the first word.
    text = re.match(rb"\S+[ \t]+[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s", block)
    return {"binary": has_header and not text, "no_header": not has_header}


def load_vectors(path: str | Path, pieces: list[str], seed: int = 0) -> Vectors:
    """Read GloVe text, word2vec text or word2vec binary; the file's beginning decides which.

    A piece without a vector, in lower case too, gets normal noise with mean and spread of the
    vectors that were found. The pad id gets zeros.

    Args:
        path: the file.
        pieces: the tokenizer's pieces, reserved ids first.
        seed: seed of the noise.

    Raises:
        InputError: when gensim or the file is missing, when the file has another format, or when
            it has a vector for none of the pieces.
    """
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise InputError(
            "embeddings", "gensim to read word vectors", error, "pip install 'kerasrnn[embeddings]'"
        ) from error
    path = Path(path)
    try:
        table = KeyedVectors.load_word2vec_format(
            str(path), unicode_errors="replace", **_format(path)
        )
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(
            "embeddings", "a GloVe or word2vec file", f"{path} ({error})", "check the file"
        ) from error
    names = {i: p if p in table else p.lower() for i, p in enumerate(pieces) if i >= len(RESERVED)}
    has_vector = np.array([i in names and names[i] in table for i in range(len(pieces))])
    if not has_vector.any():
        raise InputError(
            "embeddings", "vectors of the model's words", f"none in {path}", "use --level word"
        )
    rows = table.vectors[[table.key_to_index[names[i]] for i in np.flatnonzero(has_vector)]]
    noise = np.random.default_rng(seed).normal(
        rows.mean(), rows.std(), (len(pieces), rows.shape[1])
    )
    matrix = noise.astype(np.float32)
    matrix[has_vector] = rows
    matrix[0] = 0  # the pad id
    return Vectors(matrix, has_vector)
