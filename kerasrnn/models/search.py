"""From sources to their N best targets: what a translator and an ensemble have in common.

B batch, S source time, T target time, N best.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from kerasrnn.base.errors import check_texts
from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.decoding.sampling import Decoded, most_attended
from kerasrnn.models.serving.served import Served, served_function
from kerasrnn.text.tokenizers import END, PAD, START, UNKNOWN


class Translations(NamedTuple):
    """What a translator gives for B sources, best first.

    Attributes:
        text: string [B, N].
        score: float32 [B, N], log p, normalised as the rules say.
        tokens: int32 [B, N, T], pads behind the end.
        target_tokens: string [B, T], of the best one, "" behind the end.
        source_tokens: string [B, S], "</s>" behind the last, then "".
        attention: float32 [B, T, S], of the best one; its sum over T is the coverage. Zeros
            where the decoder has none.
    """

    text: tf.Tensor
    score: tf.Tensor
    tokens: tf.Tensor
    target_tokens: tf.Tensor
    source_tokens: tf.Tensor
    attention: tf.Tensor


class WrittenIds(NamedTuple):
    """`Translations` in ids, before there is text.

    Attributes:
        tokens, score, attention: as in `Translations`.
        copied: int32 [B, N, T], the source position most attended to.
        source_ids: int32 [B, S], with the end ids.
    """

    tokens: tf.Tensor
    score: tf.Tensor
    attention: tf.Tensor
    copied: tf.Tensor
    source_ids: tf.Tensor


def with_end(ids):
    """Ids int32 [B, S], padded behind -> [B, S + 1], the end id behind each row."""
    ids = tf.pad(ids, [[0, 0], [0, 1]], constant_values=PAD)
    lengths = tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=1, keepdims=True)
    place = tf.range(tf.shape(ids)[1])[tf.newaxis]
    return tf.where(place == lengths, END, ids)


def copied_from(attention, ids) -> tf.Tensor:
    """Attention float32 [B, N, T, S] to source ids int32 [B, S] -> the places most attended to,
    int32 [B, N, T]; nothing is copied from the end of the source."""
    ended = (ids == END)[:, tf.newaxis, tf.newaxis]
    return most_attended(tf.where(ended, 0.0, attention))


class Translates:
    """A mixin: `translate` and what it is made of.

    Its class has `tokenizers`, source and target; `attends`, whether attention is reported; and
    `stepper(source ids [B, S], beam) -> (step function of B · beam rows, state [B, ...], source
    mask [B, S])`.
    """

    @property
    def replaces_unknown(self) -> bool:
        """Whether an unknown target word becomes the source word most attended to."""
        return self.tokenizers[1].level == "word" and self.attends

    @property
    def banned_ids(self) -> tuple[int, ...]:
        """Ids that a search must not write."""
        return (PAD, START) if self.replaces_unknown else (PAD, START, UNKNOWN)

    def search(self, source, max_length, rules: BeamRules) -> Decoded:
        """Source ids int32 [B, S] with their end ids, padded behind -> the N best targets."""
        step, state, mask = self.stepper(source, rules.beam)
        begin = tf.fill([tf.shape(source)[0]], START)
        empty = tf.reduce_all((source == PAD) | (source == END), axis=1)
        length = tf.where(empty, 0, max_length)
        return beam_search(step, begin, state, length, rules=rules, mask=mask)

    def translate_ids(self, ids, rules: BeamRules, max_length) -> WrittenIds:
        """Source ids int32 [B, S], padded behind -> `WrittenIds`; graph code."""
        ids = with_end(ids)
        found = self.search(ids, max_length, rules)
        attention = found.attention
        if attention is None:
            shape = tf.concat([tf.shape(found.ids), tf.shape(ids)[1:]], axis=0)
            attention = tf.zeros(shape)
        copied = copied_from(attention, ids)
        return WrittenIds(found.ids, found.scores, attention[:, 0], copied, ids)

    def served(self, rules: BeamRules | None = None, max_length: int = 100) -> Served:
        """What is exported: a search with these rules, by default a beam of 5 that writes ids of
        text only."""
        from kerasrnn.models.serving.translator import ServedTranslator

        return ServedTranslator(self, rules or BeamRules(banned=self.banned_ids), max_length)

    def translations(
        self, sources: list[str], *, rules: BeamRules | None = None, max_length: int = 100
    ) -> Translations:
        """Translate sentences, with all there is to know about it, as NumPy arrays.

        Args:
            sources: strings, of any lengths; "" gives "".
            rules: of the search; a beam of 5 by default. Ids that are no text are banned.
            max_length: the most tokens of a target.

        Raises:
            InputError: when an argument is out of its range.
        """
        check_texts("sources", sources)
        translate = served_function(self, rules=rules, max_length=max_length)
        found = translate(tf.constant(sources, tf.string))
        return Translations(**{name: value.numpy() for name, value in found.items()})

    def translate(self, sources: list[str], **options) -> list[str]:
        """The best translation of each sentence; options as `translations`."""
        return [text[0].decode() for text in self.translations(sources, **options).text]
