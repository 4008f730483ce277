"""What a captioner's training can be told, and the model that is made of it."""

from __future__ import annotations

from kerasrnn.attention.scores import ATTENTIONS
from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import CONDITIONINGS, FED, Decoder
from kerasrnn.layers.images import ImageEncoder
from kerasrnn.layers.readout import READOUTS
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
    weights = {name: getattr(s, name) for name in Captioner.options}

    def make():
        decoder = Decoder(tokenizer.size, **options)
        return Captioner(tokenizer, encoder, decoder, **weights)

    return compiled(make, s, steps)


def make_encoder(s: Settings, weights: str | None) -> ImageEncoder:
    """The network that looks; `weights` as in `ImageEncoder`, which says what is refused."""
    return ImageEncoder(
        s.backbone, image_size=s.image_size, trainable_stages=s.trainable_stages, weights=weights
    )


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
    check_counts(s, "units", "embedding", "layers", "max_tokens", "pad_to_multiple", "image_size")
    check_shares(s, "dropout", "context_dropout", "colour_jitter", "label_smoothing")
    if s.context_dropout and s.conditioning not in FED:
        expected = f"0 with conditioning={s.conditioning}, whose cell is fed no context"
        raise InputError("context_dropout", expected, s.context_dropout, "set it to 0")
    if not 0 < s.min_crop <= 1:
        raise InputError("min_crop", "a share above 0, at most 1", s.min_crop, "use 0.8")
    for name in Captioner.options:
        if not 0 <= getattr(s, name) < float("inf"):
            raise InputError(name, "0 or more", getattr(s, name), "change it")
    if s.trainable_stages < -1:
        raise InputError(
            "trainable_stages", "0 stages or more, or -1 for all", s.trainable_stages, "change it"
        )
    if s.trainable_stages == 0 and changes_images(s):
        expected = "flip=false, min_crop=1 and colour_jitter=0, features being computed once"
        raise InputError(
            "trainable_stages", expected, "0 with changed images", "set trainable_stages or these"
        )
    BeamRules(beam=s.beam, length_penalty=s.length_penalty)


def changes_images(s: Settings) -> bool:
    """Whether images are changed at random in training."""
    return s.flip or s.min_crop < 1 or s.colour_jitter > 0
