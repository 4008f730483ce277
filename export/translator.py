"""What an exported translator takes and gives, and the cases it is tried on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export.graphs.onnx_file import joined
from kerasrnn.export.graphs.text import labels_graph, target_graph, tokenizer_graph
from kerasrnn.export.runner import decoded
from kerasrnn.text.tokenizers import RESERVED


class Served:
    """A translator as it is exported, its search fixed: strings in, strings out.

    Args:
        model: a `Translator`.
        rules: of the search; by default a beam of 5 that writes no id which is no text.
        max_length: the most tokens of a target.
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
        return {"serving_default": (self.serve, self.signature)}

    def core(self, ids):
        """Ids in, ids out: what ONNX takes from TensorFlow's graph."""
        found = self.model.translate_ids(ids, self.rules, self.max_length)
        return found.tokens, found.score, found.attention, found.copied, found.source_ids

    def serve(self, source):
        """Strings in, strings out."""
        return tuple(self.model.translate_graph(source, self.rules, self.max_length))

    def with_text(self, core):
        """The ONNX model of `core` with the tokenizers around it."""
        source, target = self.tokenizers
        parts = {
            "tokenize/": tokenizer_graph(source, "source"),
            "": core,
            "labels/": labels_graph(source),
            "detokenize/": target_graph(target, self.model.replaces_unknown),
        }
        return joined(parts, self.outputs)

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Sources of the model's own pieces and awkward ones: empty, unknown, long, one, many."""
        tokenizer = self.tokenizers[0]
        known, random = tokenizer.pieces[len(RESERVED) :], np.random.default_rng(0)
        between = " " if tokenizer.level == "word" else ""
        own = [between.join(random.choice(known, n)) for n in (3, 8, 12, 5)]
        unknown = "\U0001f989 \u0bb9\u5b57\u3000\u2028 \u200d\0a"
        long = between.join(random.choice(known, 120))
        batches = [own[:1], [""], ["", ""], [*own, "", unknown, " ", own[0][:3], "\n"], [long]]
        return [{"source": np.array(batch, object)} for batch in batches]

    def answer(self, case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the Keras model itself says to a case."""
        sources = case["source"].tolist()
        found = self.model.translations(sources, rules=self.rules, max_length=self.max_length)
        return {name: decoded(value) for name, value in found._asdict().items()}
