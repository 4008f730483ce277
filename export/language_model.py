"""What an exported language model takes and gives, and the cases it is tried on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.sampling import right_aligned
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.onnx_file import joined
from kerasrnn.export.graphs.text import detokenizer_graph, tokenizer_graph
from kerasrnn.text.tokenizers import PAD, RESERVED

SCALARS = [
    tf.TensorSpec([], tf.int32, "max_length"),
    tf.TensorSpec([], tf.float32, "temperature"),
    tf.TensorSpec([], tf.int32, "top_k"),
    tf.TensorSpec([], tf.float32, "top_p"),
    tf.TensorSpec([], tf.int32, "seed"),
]


class Served:
    """A language model as it is exported: strings and numbers in, strings out.

    Args:
        model: a `LanguageModel`.
    """

    task = "language model"
    signature = (tf.TensorSpec([None], tf.string, "prompt"), *SCALARS)
    outputs = ("text", "tokens", "score")
    core_signature = (tf.TensorSpec([None, None], tf.int32, "ids"), *SCALARS)
    core_outputs = ("all_ids", "tokens", "score")

    def __init__(self, model):
        self.model, self.tokenizers = model, [model.tokenizer]

    @property
    def signatures(self) -> dict:
        return {"serving_default": (self.serve, self.signature)}

    def core(self, ids, *scalars):
        """Ids in, ids out: what ONNX takes from TensorFlow's graph."""
        decoded = self.model.continue_ids(ids, *scalars)
        return tf.concat([right_aligned(ids), decoded.ids], axis=1), decoded.ids, decoded.scores

    def serve(self, prompt, *scalars):
        """Strings in, strings out: (text [B], tokens [B, T], score [B])."""
        ids = self.model.tokenizer.tokenize(prompt).to_tensor(PAD)
        all_ids, tokens, score = self.core(ids, *scalars)
        return self.model.tokenizer.detokenize(all_ids), tokens, score

    def with_text(self, core):
        """The ONNX model of `core` with tokenizer and detokenizer around it."""
        tokenizer = self.model.tokenizer
        before, behind = tokenizer_graph(tokenizer, "prompt"), detokenizer_graph(tokenizer, "text")
        return joined({"tokenize/": before, "": core, "detokenize/": behind}, self.outputs)

    @property
    def reader_signature(self) -> tuple[tf.TensorSpec, ...]:
        """Ids [B, T] that were read, and the state before them, flat."""
        state = tf.nest.flatten(self.model.initial_state(1))
        kept = [
            tf.TensorSpec([None, v.shape[1]], v.dtype, f"state_{i}") for i, v in enumerate(state)
        ]
        return tf.TensorSpec([None, None], tf.int32, "ids"), *kept

    def reader(self, ids, *state):
        """Ids that were read, not written: (logits [B, T, V], the state after them, flat)."""
        nested = tf.nest.pack_sequence_as(self.model.initial_state(1), state)
        logits, after = self.model.forward(ids, nested, training=False)
        return logits, *tf.nest.flatten(after)

    def reader_onnx(self):
        """`reader` as ONNX: `ids`, `state_0` … -> `logits`, `after_0` …."""
        after = [f"after_{i}" for i in range(len(self.reader_signature) - 1)]
        return onnx_file.convert(self.reader, self.reader_signature, ["logits", *after])

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Prompts of the model's own pieces and awkward ones."""
        return cases(self.model)

    def answer(self, case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the Keras model itself says to a case."""
        scalars = [tf.constant(case[s.name]) for s in SCALARS]
        prompt = tf.constant(case["prompt"].tolist())
        text, tokens, score = self.model.generate_graph(prompt, *scalars)
        texts = np.array([t.decode() for t in text.numpy()], object)
        return {"text": texts, "tokens": tokens.numpy(), "score": score.numpy()}


def cases(model) -> list[dict[str, np.ndarray]]:
    """Prompts of the model's own pieces and awkward ones: empty, unknown, long, one and many."""
    known = "".join(model.tokenizer.pieces[len(RESERVED) :])
    random = np.random.default_rng(0)
    own = ["".join(random.choice(list(known), 12)) for _ in range(4)]
    unknown = "\U0001f989 \u0bb9\u5b57\u3000\u2028 \u200d\0a"
    batches = [[""], [own[0]], [*own, "", unknown, known[:5], " ", "\n"], ["", ""], [known[:300]]]
    scalars = [
        (12, 1.0, 0, 1.0, 1),
        (40, 0.8, 5, 1.0, 2),
        (20, 1.1, 0, 0.9, 3),
        (20, 0.0, 0, 1.0, 4),
    ]
    found = [_case(batch, *s) for batch, s in zip(batches, [*scalars, scalars[0]], strict=True)]
    return [
        *found,
        _case(own, 1, 1.0, 0, 1.0, 5),
        _case(own, 0, 1.0, 0, 1.0, 6),
        _case(own[:1], 300, 1.0, 3, 0.7, 7),
    ]


def _case(prompt, *scalars) -> dict[str, np.ndarray]:
    values = {
        s.name: np.array(v, s.dtype.as_numpy_dtype) for s, v in zip(SCALARS, scalars, strict=True)
    }
    return {"prompt": np.array(prompt, object), **values}
