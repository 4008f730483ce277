"""What a translator's training can be told, and the model that is made of it."""

from __future__ import annotations

from kerasrnn.attention.scores import ATTENTIONS
from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import CONDITIONINGS, Decoder
from kerasrnn.layers.encoders import ENCODERS, LEAST_LAYERS
from kerasrnn.layers.readout import READOUTS
from kerasrnn.models.translator import Translator
from kerasrnn.tasks.checks import check_choices, check_common, check_counts, check_shares
from kerasrnn.tasks.hyperparameters import TranslatorSettings as Settings
from kerasrnn.tasks.training import (
    compiled,
)
from kerasrnn.text.tokenizers import Tokenizer


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
    both = {
        "shared_embedding": s.shared_embedding,
        "scheduled_sampling": s.scheduled_sampling,
        "seed": seed,
    }
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
    counts = (
        "units",
        "embedding",
        "encoder_layers",
        "decoder_layers",
        "max_tokens",
        "pad_to_multiple",
    )
    check_counts(s, *counts)
    check_shares(s, "dropout", "scheduled_sampling", "label_smoothing")
    least = LEAST_LAYERS.get(s.encoder, 1)
    if s.encoder_layers < least:
        expected = f"{least} or more with encoder={s.encoder}"
        raise InputError("encoder_layers", expected, s.encoder_layers, "raise it")
    BeamRules(beam=s.beam, length_penalty=s.length_penalty)
    if s.shared_embedding and not s.joint:
        raise InputError("shared_embedding", "joint=true beside it", "joint=false", "add it")
