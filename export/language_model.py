"""The inputs and outputs of an exported language model, and the cases that check it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.sampling import right_aligned
from kerasrnn.export.graphs import onnx_file
from kerasrnn.export.graphs.onnx_file import join_models
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
    """A language model in the form that is exported: strings and numbers in, strings out.

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
        """The signatures of a SavedModel by name: (function, specs of its inputs)."""
        return {"serving_default": (self.serve, self.signature)}

    def core(self, ids, *scalars):
        """Ids in, ids out: the part that tf2onnx converts."""
        decoded = self.model.continue_ids(ids, *scalars)
        return tf.concat([right_aligned(ids), decoded.ids], axis=1), decoded.ids, decoded.scores

    def serve(self, prompt, *scalars):
        """Strings in, strings out: (text [B], tokens [B, T], score [B])."""
        ids = self.model.tokenizer.tokenize(prompt).to_tensor(PAD)
        all_ids, tokens, score = self.core(ids, *scalars)
        return self.model.tokenizer.detokenize(all_ids), tokens, score

    def with_text(self, core):
        """The ONNX model of `core` between tokenizer and detokenizer."""
        tokenizer = self.model.tokenizer
        before, behind = tokenizer_graph(tokenizer, "prompt"), detokenizer_graph(tokenizer, "text")
        return join_models({"tokenize/": before, "": core, "detokenize/": behind}, self.outputs)

    @property
    def reader_signature(self) -> tuple[tf.TensorSpec, ...]:
        """Specs of the ids to read, [B, T], and of the flat state before them."""
        state = tf.nest.flatten(self.model.initial_state(1))
        states = [
            tf.TensorSpec([None, v.shape[1]], v.dtype, f"state_{i}") for i, v in enumerate(state)
        ]
        return tf.TensorSpec([None, None], tf.int32, "ids"), *states

    def reader(self, ids, *state):
        """Read ids without writing any: (logits [B, T, V], the flat state after them)."""
        nested = tf.nest.pack_sequence_as(self.model.initial_state(1), state)
        logits, after = self.model.forward(ids, nested, training=False)
        return logits, *tf.nest.flatten(after)

    def reader_onnx(self):
        """The function `reader` as ONNX: `ids`, `state_0` … -> `logits`, `after_0` …."""
        after = [f"after_{i}" for i in range(len(self.reader_signature) - 1)]
        return onnx_file.convert(self.reader, self.reader_signature, ["logits", *after])

    def cases(self) -> list[dict[str, np.ndarray]]:
        """Prompts of the model's pieces, and awkward ones."""
        return cases(self.model)

    def answer(self, case: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answer of the Keras model to a case."""
        scalars = [tf.constant(case[s.name]) for s in SCALARS]
        prompt = tf.constant(case["prompt"].tolist())
        text, tokens, score = self.model.generate_graph(prompt, *scalars)
        texts = np.array([t.decode() for t in text.numpy()], object)
        return {"text": texts, "tokens": tokens.numpy(), "score": score.numpy()}


def cases(model) -> list[dict[str, np.ndarray]]:
    """Prompts of the model's pieces, and awkward ones: empty, unknown, long, one and many."""
    pieces = "".join(model.tokenizer.pieces[len(RESERVED) :])
    random = np.random.default_rng(0)
    prompts = ["".join(random.choice(list(pieces), 12)) for _ in range(4)]
    unknown = "\U0001f989 \u0bb9\u5b57\u3000\u2028 \u200d\0a"
    batches = [
        [""],
        [prompts[0]],
        [*prompts, "", unknown, pieces[:5], " ", "\n"],
        ["", ""],
        [pieces[:300]],
    ]
    scalars = [
        (12, 1.0, 0, 1.0, 1),
        (40, 0.8, 5, 1.0, 2),
        (20, 1.1, 0, 0.9, 3),
        (20, 0.0, 0, 1.0, 4),
    ]
    cases_of_batches = [
        _case(batch, *s) for batch, s in zip(batches, [*scalars, scalars[0]], strict=True)
    ]
    return [
        *cases_of_batches,
        _case(prompts, 1, 1.0, 0, 1.0, 5),
        _case(prompts, 0, 1.0, 0, 1.0, 6),
        _case(prompts[:1], 300, 1.0, 3, 0.7, 7),
    ]


def _case(prompt, *scalars) -> dict[str, np.ndarray]:
    """A case with this prompt and the values of `SCALARS`."""
    values = {
        s.name: np.array(v, s.dtype.as_numpy_dtype) for s, v in zip(SCALARS, scalars, strict=True)
    }
    return {"prompt": np.array(prompt, object), **values}
