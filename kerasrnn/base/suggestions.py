"""Suggests the right name for an unknown one, by synonyms or by spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# a name common elsewhere -> the names that it may have here
SYNONYMS = {
    **dict.fromkeys(("lr", "rate", "step_size"), ("learning_rate",)),
    **dict.fromkeys(("batch", "bs", "batches"), ("batch_size",)),
    **dict.fromkeys(
        ("hidden", "hidden_size", "hidden_dim", "hidden_units", "rnn_size", "state_size"),
        ("units",),
    ),
    **dict.fromkeys(("num_layers", "n_layers", "depth"), ("layers", "encoder_layers")),
    **dict.fromkeys(("seq_len", "seq_length", "sequence_length", "bptt"), ("window", "max_tokens")),
    **dict.fromkeys(("max_len", "maxlen", "longest"), ("max_tokens", "max_length", "length")),
    **dict.fromkeys(
        ("emb", "emsize", "embed_dim", "embedding_dim", "embedding_size"), ("embedding",)
    ),
    **dict.fromkeys(("vocab", "vocab_size", "max_vocab"), ("vocabulary",)),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs"), ("epochs",)),
    **dict.fromkeys(("opt", "optim"), ("optimizer",)),
    **dict.fromkeys(("wd", "l2"), ("weight_decay",)),
    **dict.fromkeys(("grad_clip", "clip_norm", "max_grad_norm"), ("clip_at",)),
    **dict.fromkeys(("rnn", "rnn_type", "model"), ("cell",)),
    **dict.fromkeys(("network", "cnn"), ("backbone",)),
    **dict.fromkeys(("size", "resolution"), ("image_size",)),
    **dict.fromkeys(("src", "input", "data", "corpus", "file"), ("source", "text", "captions")),
    **dict.fromkeys(("tgt", "trg"), ("target",)),
    **dict.fromkeys(("output", "output_dir", "save", "run"), ("out",)),
    **dict.fromkeys(("force", "restart"), ("overwrite",)),
    **dict.fromkeys(("beam_size", "beam_width", "num_beams"), ("beam",)),
    **dict.fromkeys(("temp",), ("temperature",)),
    **dict.fromkeys(("sample", "predict"), ("generate",)),
    **dict.fromkeys(("eval", "test", "score", "measure"), ("evaluate",)),
    **dict.fromkeys(("convert", "save_model"), ("export",)),
    **dict.fromkeys(("check", "compare"), ("verify",)),
    **dict.fromkeys(("language_model", "language", "char_rnn"), ("lm",)),
    **dict.fromkeys(("translation", "seq2seq", "nmt", "mt"), ("translator",)),
    **dict.fromkeys(("rnn_cell", "vanilla", "elman"), ("simple_rnn",)),
    **dict.fromkeys(("bf16", "bfloat16"), ("mixed_bfloat16",)),
    **dict.fromkeys(("fp16", "float16", "half"), ("mixed_float16",)),
}


def _plain(name: str) -> str:
    """The name in lower case, with underscores and without leading dashes."""
    return name.strip().lstrip("-").replace("-", "_").lower()


def meant(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` most likely means, by `SYNONYMS` or by its spelling; or None.

    >>> meant("lr", ["units", "learning_rate"]), meant("--ephocs", ["--units", "--epochs"])
    ('learning_rate', '--epochs')
    >>> meant("qqq", ["units"]) is None
    True
    """
    names = {_plain(name): name for name in known}
    synonyms = [name for name in SYNONYMS.get(_plain(word), ()) if name in names]
    matches = synonyms or difflib.get_close_matches(_plain(word), names, 1)
    return names[matches[0]] if matches else None


def advice(word: str, known: Iterable[str], otherwise: str) -> str:
    """The advice about an unknown word: the likely name, or the text `otherwise`.

    >>> advice("trian", ["demo", "train"], "choose one of them")
    'did you mean train?'
    """
    name = meant(word, known)
    return f"did you mean {name}?" if name else otherwise
