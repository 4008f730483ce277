"""The likeliest words that go on with a text, and how likely each is.

V vocabulary.
"""

from __future__ import annotations

import heapq
import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from kerasrnn.base.errors import InputError

MOST = 2000  # steps of a search
LEAST = 1e-4  # probability of an id that is looked at, behind what is begun
SPACE = " "

Step = Callable[[int, object], tuple[np.ndarray, object]]


def in_word(character: str) -> bool:
    """Whether a character can be part of a word."""
    return (
        character.isalnum() or character in "_'’" or unicodedata.category(character).startswith("M")
    )


def begun_word(text: str) -> str:
    """The word that a text ends in, "" where it ends in none.

    >>> begun_word("It was the bes"), begun_word("It was ")
    ('bes', '')
    """
    return "".join(reversed([*itertools.takewhile(in_word, reversed(text))]))


def roles(
    pieces: Sequence[str], level: str, spaced: bool = False
) -> tuple[list[str | None], list[str | None]]:
    """For each id the text with which it begins a word, and with which it goes on with one.

    None where it does neither; "" for a space alone.

    Args:
        spaced: of subwords, whether the piece that begins a word has the space before it.

    >>> roles(["", "a", " "], "char")
    ([None, 'a', None], [None, 'a', None])
    >>> roles([" the", "ir", "."], "subword", spaced=True)
    (['the', None, None], [None, 'ir', None])
    """

    def word(piece: str) -> str | None:
        return piece if piece and all(map(in_word, piece)) else None

    texts = [word(piece) for piece in pieces]
    if level == "word":  # a piece is a whole word, and nothing goes on with it
        return texts, [None] * len(pieces)
    if not spaced:
        return texts, texts
    begins = [piece.startswith(SPACE) for piece in pieces]
    apart = [
        ("" if piece == SPACE else word(piece[1:])) if begin else None
        for piece, begin in zip(pieces, begins, strict=True)
    ]
    return apart, texts


def suggest(
    step: Step, before: tuple, pieces: tuple, level: str, begun: str, count: int
) -> list[tuple[str, float]]:
    """The likeliest words that begin with `begun`, and their probabilities among all such words.

    Beginnings are taken in the order of their probability, so nothing likelier is missed.

    Args:
        step: (the id before, state) -> (log p float [V] of the next id, state).
        before: (last id, state) of the text before the word.
        pieces: what `roles` says of each id.
        level: "char", "word" or "subword".
        begun: the letters of the word that are there already; "" for none.
        count: how many words.

    Raises:
        InputError: when `count` is below 1.

    >>> log_p = np.log([0.5, 0.3, 0.2])
    >>> ways = {"": log_p, "a": np.log([0.1, 0.1, 0.8]), "b": np.log([0.2, 0.2, 0.6])}
    >>> step = lambda id, text: (ways.get(text, np.log([0.01, 0.01, 0.98])), text)
    >>> def spelled(id, text):
    ...     text += ["a", "b", ""][id]
    ...     return step(id, text)
    >>> found = suggest(spelled, (2, ""), roles(["a", "b", " "], "char"), "char", "", 2)
    >>> [(word, round(p, 3)) for word, p in found]
    [('a', 0.5), ('b', 0.225)]
    """
    if count < 1:
        raise InputError("suggest", "1 word or more", count, "raise it")
    first, more = pieces
    done: dict[str, float] = defaultdict(float)
    number = itertools.count()  # of equal ones the first
    log_p, state = step(*before)
    frontier = _children(0.0, "", log_p, state, first, begun, number)
    heapq.heapify(frontier)
    for _ in range(MOST):
        if not frontier or _is_found(frontier[0], done, begun, count):
            break
        cost, _, text, id, state = heapq.heappop(frontier)
        if level == "word":
            done[text] += np.exp(-cost)
            continue
        log_p, state = step(id, state)
        children = _children(cost, text, log_p, state, more, begun, number)
        going_on = sum(np.exp(log_p[i]) for i, piece in enumerate(more) if piece is not None)
        if text.startswith(begun):
            done[text] += np.exp(-cost) * max(0.0, 1.0 - going_on)
        for child in children:
            heapq.heappush(frontier, child)
    whole = sum(done.values()) + sum(np.exp(-node[0]) for node in frontier)
    best = sorted(done.items(), key=lambda item: -item[1])[:count]
    return [(word, float(p / whole)) for word, p in best if p]


def _children(cost: float, text: str, log_p, state, role, begun: str, number) -> list:
    """Nodes (cost, number, text, id, state) for each id that goes on, where the text may fit."""
    nodes = []
    for id, piece in enumerate(role):
        if piece is None:
            continue
        longer = text + piece
        fits = longer.startswith(begun) and log_p[id] > np.log(LEAST)
        if fits or begun.startswith(longer):
            nodes.append((cost - float(log_p[id]), next(number), longer, int(id), state))
    return nodes


def _is_found(likeliest, done: dict, begun: str, count: int) -> bool:
    """Whether no beginning that is left can be among the `count` words any more."""
    best = sorted(done.values(), reverse=True)[:count]
    return len(best) == count and np.exp(-likeliest[0]) <= best[-1]
