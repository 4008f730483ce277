"""What a captioner declares."""

from __future__ import annotations

from dataclasses import dataclass

from kerasrnn.base.choices import LEVELS
from kerasrnn.base.errors import InputError
from kerasrnn.kinds import Attention, Image, Number, Pieces, Place, Text
from kerasrnn.tasks.common import (
    ATTENTIONS,
    CELL,
    CONDITIONINGS,
    READOUTS,
    SEARCHED,
    CommonSettings,
    TokenSettings,
)
from kerasrnn.tasks.settings import AMOUNT, COUNT, SHARE, Need, Range, inherited, setting
from kerasrnn.tasks.task import MEASURING, Option, Task

CROP = Range("a share above 0, at most 1", lambda value: 0 < value <= 1, "use 0.8")
STAGES = Range("0 stages or more, or -1 for all", lambda value: value >= -1)
HARD = Need("--conditioning hard", lambda v: v["conditioning"] == "hard")
CAPTIONS = Need("--captions", lambda v: v["captions"])
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Settings(TokenSettings):
    """What the training of a captioner can be told."""

    backbone: str = setting("small", "the network that looks: small, or one of keras.applications")
    image_size: int = setting(128, "pixels of a side that it sees", range=COUNT)
    trainable_stages: int = setting(
        -1,
        "stages of it that are trained, the last first; -1: all. With 0 each image's features are "
        "computed once and kept",
        range=STAGES,
    )
    lowercase: bool = setting(True, "captions are made lower case")
    cell: str = setting("lstm", "the recurrent cell, or module:Class of --import", **CELL)
    units: int = setting(256, "of each layer's state", range=COUNT)
    embedding: int = setting(128, "the width of a token's vector", range=COUNT)
    layers: int = setting(1, "recurrent layers", range=COUNT)
    conditioning: str = setting("gated", "how the decoder sees the image", choices=CONDITIONINGS)
    attention: str = setting("additive", "the score of a place", choices=ATTENTIONS)
    readout: str = setting("deep", "from state to logits", choices=READOUTS)
    coverage_weight: float = setting(
        0.0, "of looking at every place alike, over all words, in the loss", range=AMOUNT
    )
    reinforce_weight: float = setting(
        0.05, "of the reward of hard attention, in the loss", range=AMOUNT, needs=HARD
    )
    entropy_weight: float = setting(
        0.01, "of the entropy of hard attention, in the loss", range=AMOUNT, needs=HARD
    )
    dropout: float = setting(0.3, "share of units left out at random", range=SHARE)
    context_dropout: float = setting(0.0, "the same, of what is looked at", range=SHARE)
    label_smoothing: float = setting(0.0, "share of the target given to other ids", range=SHARE)
    max_tokens: int = setting(40, "of a caption", range=COUNT)
    flip: bool = setting(False, "half of the images are mirrored in training")
    min_crop: float = setting(
        1.0, "least share of a side that stays in a random crop; 1: none", range=CROP
    )
    colour_jitter: float = setting(
        0.0, "largest change of brightness, contrast and saturation; 0: none", range=SHARE
    )
    pad_to_multiple: int = setting(
        8, "lengths are padded to a multiple of it; each is compiled once", range=COUNT
    )
    best_by: str = setting("nats", "selects the saved model", choices=("nats", "bleu_4"))
    beam: int = setting(3, "width of the search, in evaluation and export", range=COUNT)
    length_penalty: float = setting(0.0, "of the search; 0: none", range=AMOUNT, needs=SEARCHED)
    batch_size: int = inherited(CommonSettings, "batch_size", 64, help="captions in a batch")
    valid_share: float = inherited(CommonSettings, "valid_share", 0.1, rivals=["valid_captions"])

    def check(self) -> None:
        super().check()
        from kerasrnn.layers.decoder import FED

        if self.context_dropout and self.conditioning not in FED:
            expected = f"0 with conditioning={self.conditioning}, whose cell is fed no context"
            raise InputError("context_dropout", expected, self.context_dropout, "set it to 0")
        if self.trainable_stages == 0 and self.changes_images:
            expected = "flip=false, min_crop=1 and colour_jitter=0, features being computed once"
            step = "set trainable_stages or these"
            raise InputError("trainable_stages", expected, "0 with changed images", step)

    @property
    def changes_images(self) -> bool:
        """Whether images are changed at random in training."""
        return self.flip or self.min_crop < 1 or self.colour_jitter > 0


PRESETS = {
    "tiny": Settings(
        image_size=64,
        units=64,
        embedding=64,
        dropout=0.05,
        context_dropout=0.5,
        batch_size=32,
        epochs=6,
        learning_rate=4e-3,
    ),
    "small": Settings(),
    "flickr8k": Settings(
        vocabulary=2000,
        dropout=0.4,
        label_smoothing=0.1,
        flip=True,
        min_crop=0.8,
        colour_jitter=0.3,
        batch_size=32,
        epochs=14,
        learning_rate=2e-3,
    ),
}

FORMATS = "CSV image,caption; Flickr8k's tokens; Karpathy's or COCO's JSON"
WEIGHTS = "of the network: a file; imagenet, which Keras may download; none (none)"
TASK = Task(
    name="captioner",
    noun="a captioner",
    verb="caption",
    about="a captioner from images and captions",
    verb_about="say what is on images",
    package=__package__,
    options=[
        Option(
            "images",
            "JPEG and PNG files",
            "DIR",
            commands=["train", *MEASURING],
            required=True,
            needs=dict.fromkeys(MEASURING, CAPTIONS),
            file=True,
        ),
        Option("captions", FORMATS, commands=["train", *MEASURING], required=True, file=True),
        Option("valid_captions", "default: the split, or some", file=True),
        Option(
            "split",
            "of a file of captions that names splits (test, where it has one)",
            commands=MEASURING,
            choices=SPLITS,
        ),
        Option(
            "drawn",
            "hard attention draws its places, in place of the likeliest",
            commands=["evaluate"],
            value=True,
            default=False,
        ),
        Option("cnn_weights", WEIGHTS, "FILE|imagenet|none", none="none", file=True),
        Option("cache", "of images and features (RUN/images)", "DIR", file=True),
        Option("strict", "stop at an image that is faulty", value=True, default=False),
        Option("level", "what a token is", choices=LEVELS, default="word"),
        Option(
            "images",
            "files or folders; - or none: paths on stdin, one a line",
            "IMAGE",
            commands=["caption"],
            many=True,
            positional=True,
        ),
        Option("attention", "draw where each word looked", "PLOT.png", commands=["caption"]),
        Option(
            "strict",
            "stop at an image it cannot use",
            commands=["caption"],
            value=True,
            default=False,
        ),
    ],
    settings=Settings,
    presets=PRESETS,
    takes=[Place("image", Image())],
    gives=[
        Place("text", Text(), many=True),
        Place("score", Number(), many=True),
        Place("target_tokens", Pieces()),
        Place("attention", Attention("image")),
    ],
    order=3,
)
