"""How a translator, or an ensemble of some, is served: text in one language in, in another out."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.kinds import Attention, Ids, Number, Pieces, Place, Text
from kerasrnn.models.search import copied_from, with_end
from kerasrnn.models.serving.language_model import text_of
from kerasrnn.models.serving.scoring import Scoring, cost_of_sentences
from kerasrnn.models.serving.served import Served
from kerasrnn.models.serving.stream import EncoderDecoderStream
from kerasrnn.text.parts import DetokenizeBest, NameSource, Tokenize
from kerasrnn.text.tokenizers import END, START


class Searches(Served):
    """A model that writes by a beam search, which is fixed in an export.

    Args:
        model: a model with `banned_ids`.
        rules: rules of the search.
        max_length: largest number of tokens that it writes.

    Raises:
        InputError: when `max_length` is below 1.
    """

    def __init__(self, model, rules: BeamRules, max_length: int):
        super().__init__(model)
        if max_length < 1:
            raise InputError("max_length", "1 or more", max_length, "raise it")
        self.rules, self.max_length = rules, max_length

    @property
    def search(self):
        return {"rules": dataclasses.asdict(self.rules), "max_length": self.max_length}

    def greedy(self) -> Searches:
        """The same model with the search that token by token allows."""
        return type(self)(self.model, BeamRules(beam=1, banned=self.rules.banned), self.max_length)


class ServedTranslator(Searches):
    """A `Translator` or an `Ensemble`: strings in, strings out."""

    task, title = "translator", "Translate"
    gives = (
        Place("text", Text(), many=True),
        Place("score", Number(), many=True),
        Place("tokens", Ids(), many=True),
        Place("target_tokens", Pieces()),
        Place("source_tokens", Pieces("S")),
        Place("attention", Attention("source_tokens")),
    )
    core_outputs = ("tokens", "score", "attention", "copied", "source_ids")

    def __init__(self, model, rules, max_length):
        super().__init__(model, rules, max_length)
        source, target = model.tokenizers
        self.takes = (Place("source", text_of(source), "Sentence"),)
        self.before = [Tokenize(source, "source")]
        self.behind = [
            NameSource(self.before[0]),
            DetokenizeBest(target, model.replaces_unknown),
        ]

    def core(self, ids):
        result = self.model.translate_ids(ids, self.rules, self.max_length)
        return result.tokens, result.score, result.attention, result.copied, result.source_ids

    @functools.cached_property
    def stream(self):
        if not hasattr(self.model, "decoder"):
            expected = "a model with one decoder, for token by token"
            step = "export one of its members"
            raise InputError("model", expected, type(self.model).__name__, step)
        return TranslatorStream(self.greedy())

    @functools.cached_property
    def scoring(self):
        return TranslatorScoring(self) if hasattr(self.model, "decoder") else None


class TranslatorScoring(Scoring):
    """What a translation costs."""

    def __init__(self, served):
        super().__init__(served)
        target = self.model.tokenizers[1]
        self.takes = (*served.takes, Place("target", text_of(target)))
        self.before = [*served.before, Tokenize(target, "target", "target_ids")]

    def core(self, ids, target_ids):
        return cost_of_sentences(self.model, with_end(ids), target_ids)


class TranslatorStream(EncoderDecoderStream):
    """A translator. An empty source begins with the end id, so nothing is written."""

    def read(self, inputs):
        ids = with_end(inputs)
        begin = tf.where(ids[:, :1] == END, END, START)
        if not self.model.replaces_unknown:
            return ids, begin, {"source_ids": ids}
        return ids, begin, {"source_ids": ids, "copied": tf.zeros_like(begin)}

    def advance(self, fed):
        outputs = super().advance(fed)
        if "copied" in fed:  # the place in the source that each token may be copied from
            place = copied_from(outputs["attention"][:, tf.newaxis, tf.newaxis], fed["source_ids"])
            outputs["next_copied"] = tf.concat([fed["copied"], place[:, 0]], axis=1)
        return outputs

    @property
    def fed(self):
        if self.model.replaces_unknown:
            return super().fed
        return tuple(spec for spec in super().fed if spec.name != "source_ids")

    @property
    def behind(self):
        return [NameSource(self.before[0])]
