"""What a captioner's training can be told, and the model that is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from kerasrnn.attention import ATTENTIONS
from kerasrnn.beam import BeamRules
from kerasrnn.cells import CELLS
from kerasrnn.errors import InputError
from kerasrnn.layers.decoder import CONDITIONINGS, FED, READOUTS, Decoder
from kerasrnn.layers.images import SMALL, ImageEncoder
from kerasrnn.models.captioner import Captioner
from kerasrnn.tasks.checks import check_choices, check_common, check_counts, check_shares
from kerasrnn.tasks.training import (
    CommonSettings,
    compiled,
)
from kerasrnn.text import Tokenizer


@dataclass(frozen=True)
class Settings(CommonSettings):
    """Every hyperparameter of a captioner's training, those of `CommonSettings` among them.

    `network`, `size` and `trained` as in `ImageEncoder`, with `trained=0` features are computed
    once and kept; `context_dropout` as in `Decoder`; `lowercase` whether captions are; `balance`,
    `reward` and `curiosity` as in `Captioner`; `longest` the most tokens of a caption; `flip`
    whether half of the images are mirrored in training, `crop` the least share of a side kept,
    `colour` the most change of brightness, contrast and saturation; `batch_size` counts captions;
    `multiple` is that of padded lengths, each of which is compiled for; `best_by` the figure that
    chooses the best model; `beam` and `length_penalty` those of evaluation and export.
    """

    network: str = SMALL
    size: int = 128
    trained: int = -1
    lowercase: bool = True
    cell: str = "lstm"
    units: int = 256
    embedding: int = 128
    layers: int = 1
    conditioning: str = "gated"
    attention: str = "additive"
    readout: str = "deep"
    balance: float = 0.0
    reward: float = 0.05
    curiosity: float = 0.01
    dropout: float = 0.3
    context_dropout: float = 0.0
    label_smoothing: float = 0.0
    longest: int = 40
    flip: bool = False
    crop: float = 1.0
    colour: float = 0.0
    multiple: int = 8
    best_by: str = "nats"
    beam: int = 3
    length_penalty: float = 0.0


PRESETS = {
    "tiny": Settings(
        size=64,
        units=64,
        embedding=64,
        dropout=0.05,
        context_dropout=0.5,
        batch_size=32,
        epochs=4,
        learning_rate=4e-3,
    ),
    "small": Settings(),
    "flickr8k": Settings(
        vocabulary=2000,
        dropout=0.4,
        label_smoothing=0.1,
        flip=True,
        crop=0.8,
        colour=0.3,
        batch_size=32,
        epochs=14,
        learning_rate=2e-3,
    ),
}


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
