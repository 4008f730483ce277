"""Word vectors from GloVe or word2vec files -> a matrix for a tokenizer's vocabulary."""

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
    """A matrix [V, D] float32, and which of its rows [V] came from the file."""

    matrix: np.ndarray
    found: np.ndarray

    def __str__(self) -> str:
        known, width = len(self.found) - len(RESERVED), self.matrix.shape[1]
        return f"{int(self.found.sum()):,} of {known:,} words found, {width} numbers each"


def _format(path: Path) -> dict:
    """How the file is written: word2vec has a header "count size", GloVe none; binary or text."""
    from smart_open import open as unpack  # gensim's own, for .gz and the like

    with unpack(path, "rb") as file:
        header, block = file.readline(LONGEST), file.read(4096)
    if not header:
        raise ValueError("it is empty")
    fields = header.split()
    has_header = len(fields) == 2 and all(f.isdigit() for f in fields)
    if has_header and int(fields[0]) * int(fields[1]) > TIMES * path.stat().st_size:
        raise ValueError("it is shorter than it says")
    # In a text file numbers follow the first word.
    text = re.match(rb"\S+[ \t]+[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s", block)
    return {"binary": has_header and not text, "no_header": not has_header}


def load_vectors(path: str | Path, pieces: list[str], seed: int = 0) -> Vectors:
    """Read GloVe text, word2vec text or word2vec binary, told apart by their beginning.

    A piece without a vector (and its lower case without one) gets normal noise of the found
    vectors' spread; the pad id gets zeros.

    Args:
        path: the file.
        pieces: the tokenizer's pieces, reserved ids first.
        seed: of the noise.

    Raises:
        InputError: when the file is missing, is in neither format, or knows none of the pieces.
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
    found = np.array([i in names and names[i] in table for i in range(len(pieces))])
    if not found.any():
        raise InputError(
            "embeddings", "vectors of the model's words", f"none in {path}", "use --level word"
        )
    rows = table.vectors[[table.key_to_index[names[i]] for i in np.flatnonzero(found)]]
    noise = np.random.default_rng(seed).normal(
        rows.mean(), rows.std(), (len(pieces), rows.shape[1])
    )
    matrix = noise.astype(np.float32)
    matrix[found] = rows
    matrix[0] = 0
    return Vectors(matrix, found)
