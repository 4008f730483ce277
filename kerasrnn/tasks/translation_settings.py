"""What a translator's training can be told, and the model that is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from kerasrnn.attention import ATTENTIONS
from kerasrnn.beam import BeamRules
from kerasrnn.cells import CELLS
from kerasrnn.errors import InputError
from kerasrnn.layers.decoder import CONDITIONINGS, READOUTS, Decoder
from kerasrnn.layers.encoders import ENCODERS
from kerasrnn.models.translator import Translator
from kerasrnn.tasks.checks import check_choices, check_common, check_counts, check_shares
from kerasrnn.tasks.training import (
    CommonSettings,
    compiled,
)
from kerasrnn.text import Tokenizer


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Every hyperparameter of a translator's training, those of `CommonSettings` among them.

    `joint` is one tokenizer for both sides; `longest` the most tokens of a side, in training and in
    what is written; `ratio` the most of one side's length over the other's; `sampling` the share
    of scheduled sampling; `batch_by` what `batch_size` counts, "tokens" of the longer side,
    padding included, or "sentences"; `multiple` that of padded lengths, each of which is compiled
    for; `best_by` the figure that the best model has most of, see `scores`; `beam` and
    `length_penalty` those of evaluation and export.
    """

    joint: bool = False
    encoder: str = "bidirectional"
    cell: str = "gru"
    units: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    embedding: int = 256
    conditioning: str = "attention"
    attention: str = "additive"
    readout: str = "maxout_tied"
    shared_embedding: bool = False
    dropout: float = 0.3
    label_smoothing: float = 0.1
    sampling: float = 0.0
    longest: int = 100
    ratio: float = 9.0
    batch_by: str = "sentences"
    multiple: int = 4
    best_by: str = "bleu"
    beam: int = 5
    length_penalty: float = 1.0
    valid_share: float = 0.05


PRESETS = {
    "tiny": Settings(
        units=96,
        embedding=32,
        readout="maxout",
        dropout=0.1,
        label_smoothing=0.0,
        multiple=12,
        epochs=5,
        learning_rate=5e-3,
        best_by="exact",
        beam=3,
    ),
    "small": Settings(joint=True, shared_embedding=True),
    "multi30k": Settings(
        vocabulary=5000,
        joint=True,
        shared_embedding=True,
        units=256,
        embedding=256,
        dropout=0.35,
        epochs=14,
        learning_rate=2e-3,
    ),
}


def make_model(
    s: Settings, tokenizers: tuple[Tokenizer, Tokenizer], steps: int, seed: int
) -> Translator:
    """A new compiled model; see `compiled`."""
    return compiled(lambda: _model(s, *tokenizers, seed), s, steps)


def _model(s: Settings, source: Tokenizer, target: Tokenizer, seed: int) -> Translator:
    shared = {"embedding": s.embedding, "cell": s.cell, "units": s.units, "dropout": s.dropout}
    encoder = ENCODERS[s.encoder](source.size, layers=s.encoder_layers, **shared)
    names = ("conditioning", "attention", "readout")
    options = {name: getattr(s, name) for name in names}
    decoder = Decoder(target.size, layers=s.decoder_layers, **shared, **options)
    both = {"shared_embedding": s.shared_embedding, "sampling": s.sampling, "seed": seed}
    return Translator(source, target, encoder, decoder, **both)


def check(s: Settings, seed: int) -> None:
    """Refuse settings that cannot be (InputError)."""
    check_common(s, seed)
    check_choices(
        s,
        encoder=ENCODERS,
        cell=CELLS,
        conditioning=CONDITIONINGS,
        attention=ATTENTIONS,
        readout=READOUTS,
        batch_by=("tokens", "sentences"),
        best_by=("bleu", "chrf", "exact"),
    )
    counts = ("units", "embedding", "encoder_layers", "decoder_layers", "longest", "multiple")
    check_counts(s, *counts)
    check_shares(s, "dropout", "sampling", "label_smoothing")
    BeamRules(beam=s.beam, length_penalty=s.length_penalty)
    if s.shared_embedding and not s.joint:
        raise InputError("shared_embedding", "joint=true beside it", "joint=false", "add it")
