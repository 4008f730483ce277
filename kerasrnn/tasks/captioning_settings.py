"""What a captioner's training can be told, and the model that is made of it."""

from __future__ import annotations

from kerasrnn.attention.scores import ATTENTIONS
from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import CONDITIONINGS, FED, READOUTS, Decoder
from kerasrnn.layers.images import ImageEncoder
from kerasrnn.models.captioner import Captioner
from kerasrnn.tasks.checks import check_choices, check_common, check_counts, check_shares
from kerasrnn.tasks.hyperparameters import CaptionerSettings as Settings
from kerasrnn.tasks.training import (
    compiled,
)
from kerasrnn.text.tokenizers import Tokenizer


def make_model(s: Settings, tokenizer: Tokenizer, encoder: ImageEncoder, steps: int) -> Captioner:
    """A new compiled model; see `compiled`."""
    names = ("embedding", "cell", "units", "layers", "conditioning", "attention", "readout")
    names += ("dropout", "context_dropout")
    options = {name: getattr(s, name) for name in names}
    attention = {name: getattr(s, name) for name in ("balance", "reward", "curiosity")}

    def make():
        decoder = Decoder(tokenizer.size, **options)
        return Captioner(tokenizer, encoder, decoder, **attention)

    return compiled(make, s, steps)


def make_encoder(s: Settings, weights: str | None) -> ImageEncoder:
    """The network that looks; `weights` as in `ImageEncoder`, which says what is refused."""
    return ImageEncoder(s.network, size=s.size, trained=s.trained, weights=weights)


def check(s: Settings, seed: int) -> None:
    """Refuse settings that cannot be (InputError)."""
    check_common(s, seed)
    check_choices(
        s,
        cell=CELLS,
        conditioning=CONDITIONINGS,
        attention=ATTENTIONS,
        readout=READOUTS,
        best_by=("nats", "bleu_4"),
    )
    check_counts(s, "units", "embedding", "layers", "longest", "multiple", "size")
    check_shares(s, "dropout", "context_dropout", "colour", "label_smoothing")
    if s.context_dropout and s.conditioning not in FED:
        expected = f"0 with conditioning={s.conditioning}, whose cell is fed no context"
        raise InputError("context_dropout", expected, s.context_dropout, "set it to 0")
    if not 0 < s.crop <= 1:
        raise InputError("crop", "a share above 0, at most 1", s.crop, "use 0.8")
    for name in ("balance", "reward", "curiosity"):
        if not 0 <= getattr(s, name) < float("inf"):
            raise InputError(name, "0 or more", getattr(s, name), "change it")
    if s.trained < -1:
        raise InputError("trained", "0 stages or more, or -1 for all", s.trained, "change it")
    if s.trained == 0 and changes_images(s):
        expected = "flip=false, crop=1 and colour=0, features being computed once"
        raise InputError("trained", expected, "0 with changed images", "set trained or these")
    BeamRules(beam=s.beam, length_penalty=s.length_penalty)


def changes_images(s: Settings) -> bool:
    """Whether images are changed at random in training."""
    return s.flip or s.crop < 1 or s.colour > 0
