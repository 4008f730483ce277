"""What stands around a core that takes and gives ids: text -> ids before it, ids -> text behind it.

A part reads named tensors and gives named tensors. `apply` is its graph code; an export to ONNX
writes the same part in operators of ONNX Runtime (`kerasrnn.export.graphs.text`).

B batch, N best, T target time, S source time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from kerasrnn.text.tokenizers import END, ENDED, PAD, UNKNOWN, Tokenizer

Named = dict[str, tf.Tensor]


@dataclass(frozen=True, eq=False)
class Tokenize:
    """Strings `text` [B] -> `ids` int32 [B, S], padded behind with 0.

    It also gives `text`_parts string [B, S], the text behind each id.
    """

    tokenizer: Tokenizer
    text: str
    ids: str = "ids"

    @property
    def parts(self) -> str:
        return f"{self.text}_parts"

    def apply(self, named: Named) -> Named:
        strings = named[self.text]
        parts = self.tokenizer.split(strings).to_tensor("")
        return {self.ids: self.tokenizer.tokenize(strings).to_tensor(PAD), self.parts: parts}


@dataclass(frozen=True, eq=False)
class NameSource:
    """`source_ids` int32 [B, S], with the end id behind each row -> `source_tokens` string [B, S].

    The text is `ENDED` at the end and "" behind it. It reads the `parts` of `of` too.
    """

    of: Tokenize

    def apply(self, named: Named) -> Named:
        ids = named["source_ids"]
        words = tf.pad(named[self.of.parts], [[0, 0], [0, 1]], constant_values="")
        words = tf.where(ids == END, ENDED, tf.where(ids == PAD, "", words))
        return {"source_tokens": words}


@dataclass(frozen=True, eq=False)
class Detokenize:
    """`all_ids` int32 [B, T] -> strings `text` [B].

    With `replaces`, unknown ids become the words of `source_tokens` string [B, S] at the places
    `all_copied` int32 [B, T].
    """

    tokenizer: Tokenizer
    text: str = "text"
    replaces: bool = False

    def apply(self, named: Named) -> Named:
        words = None
        if self.replaces:
            words = tf.gather(named["source_tokens"], named["all_copied"], batch_dims=1)
        return {self.text: self.tokenizer.detokenize(named["all_ids"], words)}


@dataclass(frozen=True, eq=False)
class DetokenizeBest:
    """`tokens` int32 [B, N, T] -> `text` string [B, N], and `target_tokens` string [B, T] of the
    best.

    With `replaces`, unknown tokens become the words of `source_tokens` string [B, S] at the places
    `copied` int32 [B, N, T].
    """

    tokenizer: Tokenizer
    replaces: bool = False

    def apply(self, named: Named) -> Named:
        tokens, words = named["tokens"], None
        pieces = tf.gather(self.tokenizer.pieces, tokens[:, 0])
        if self.replaces:
            words = tf.gather(named["source_tokens"], named["copied"], batch_dims=1)
            pieces = tf.where(tokens[:, 0] == UNKNOWN, words[:, 0], pieces)
        return {"text": self.tokenizer.detokenize(tokens, words), "target_tokens": pieces}


@dataclass(frozen=True, eq=False)
class NameClass:
    """Numbers `number` int32 [B] -> `label` string [B], the name at that place of `names`."""

    names: Sequence[str]
    number: str = "number"
    label: str = "label"

    def apply(self, named: Named) -> Named:
        return {self.label: tf.gather(tf.constant(list(self.names)), named[self.number])}
