"""The inputs and outputs of an exported translator, and the cases that check it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export.graphs.onnx_file import join_models
from kerasrnn.export.graphs.text import labels_graph, target_graph, tokenizer_graph
from kerasrnn.export.runner import decode_strings
from kerasrnn.text.tokenizers import RESERVED


class Served:
    """A translator in the form that is exported, with a fixed search: strings in, strings out.

    Args:
        model: a `Translator`.
        rules: rules of the search; by default a beam of 5 that writes ids of text only.
        max_length: largest number of tokens in a target.
    """

    task = "translator"
    signature = (tf.TensorSpec([None], tf.string, "source"),)
    outputs = ("text", "score", "tokens", "target_tokens", "source_tokens", "attention")
    core_signature = (tf.TensorSpec([None, None], tf.int32, "ids"),)
    core_outputs = ("tokens", "score", "attention", "copied", "source_ids")

    def __init__(self, model, rules: BeamRules | None = None, max_length: int = 100):
        self.model, self.max_length = model, max_length
        self.rules = rules or BeamRules(banned=model.banned_ids)
        self.tokenizers = list(model.tokenizers)

    @property
    def signatures(self) -> dict:
        """The signatures of a SavedModel by name: (function, specs of its inputs)."""
        return {"serving_default": (self.serve, self.signature)}

    def core(self, ids):
        """Ids in, ids out: the part that tf2onnx converts."""
        result = self.model.translate_ids(ids, self.rules, self.max_length)
        return result.tokens, result.score, result.attention, result.copied, result.source_ids

    def serve(self, source):
        """Strings in, strings out."""
        return tuple(self.model.translate_graph(source, self.rules, self.max_length))

    def with_text(self, core):
        """The ONNX model of `core` between the tokenizer and the detokenizer."""
        source, target = self.tokenizers
        parts = {
            "tokenize/": tokenizer_graph(source, "source"),
            "": core,
            "labels/": labels_graph(source),
            "detokenize/": target_graph(target, self.model.replaces_unknown),
        }
        return join_models(parts, self.outputs)

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Sources of the model's pieces, and awkward ones: empty, unknown, long, one and many."""
        tokenizer = self.tokenizers[0]
        pieces, random = tokenizer.pieces[len(RESERVED) :], np.random.default_rng(0)
        separator = " " if tokenizer.level == "word" else ""
        sources = [separator.join(random.choice(pieces, n)) for n in (3, 8, 12, 5)]
        unknown = "\U0001f989 \u0bb9\u5b57\u3000\u2028 \u200d\0a"
        long = separator.join(random.choice(pieces, 120))
        batches = [
            sources[:1],
            [""],
            ["", ""],
            [*sources, "", unknown, " ", sources[0][:3], "\n"],
            [long],
        ]
        return [{"source": np.array(batch, object)} for batch in batches]

    def answer(self, case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer of the Keras model to a case."""
        sources = case["source"].tolist()
        translations = self.model.translations(
            sources, rules=self.rules, max_length=self.max_length
        )
        return {name: decode_strings(value) for name, value in translations._asdict().items()}
