"""What a translator declares."""

from __future__ import annotations

from dataclasses import dataclass

from kerasrnn.base.choices import LEVELS
from kerasrnn.base.errors import InputError
from kerasrnn.kinds import Attention, Number, Pieces, Place, Text
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

RATIO = Range("1 or more", lambda value: value >= 1, "raise it")
SOURCE = Need("--source", lambda v: v["source"])
VALID_SOURCE = Need("--valid-source", lambda v: v["valid_source"])
VALID_TARGET = Need("--valid-target", lambda v: v["valid_target"] or v["target"] is None)


@dataclass(frozen=True)
class Settings(TokenSettings):
    """What the training of a translator can be told."""

    joint: bool = setting(False, "one tokenizer for both sides")
    encoder: str = setting(
        "bidirectional", "what reads the source", choices="kerasrnn.layers.encoders:ENCODERS"
    )
    cell: str = setting("gru", "the recurrent cell, or module:Class of --import", **CELL)
    units: int = setting(256, "of each layer's state", range=COUNT)
    encoder_layers: int = setting(1, "recurrent layers of the encoder", range=COUNT)
    decoder_layers: int = setting(1, "recurrent layers of the decoder", range=COUNT)
    embedding: int = setting(256, "the width of a token's vector", range=COUNT)
    conditioning: str = setting(
        "attention", "how the decoder sees the source", choices=CONDITIONINGS
    )
    attention: str = setting("additive", "the score of a place", choices=ATTENTIONS)
    readout: str = setting("maxout_tied", "from state to logits", choices=READOUTS)
    shared_embedding: bool = setting(False, "one embedding for both sides")
    dropout: float = setting(0.3, "share of units left out at random", range=SHARE)
    label_smoothing: float = setting(0.1, "share of the target given to other ids", range=SHARE)
    scheduled_sampling: float = setting(
        0.0, "share of the target's words that the model's own replace", range=SHARE
    )
    max_tokens: int = setting(100, "of a side, in training and in what is written", range=COUNT)
    max_length_ratio: float = setting(
        9.0, "of the longer side to the shorter; other pairs are left out", range=RATIO
    )
    batch_by: str = setting(
        "sentences",
        "what batch_size counts; tokens are those of the longer side, with its padding",
        choices=("tokens", "sentences"),
    )
    pad_to_multiple: int = setting(
        4, "lengths are padded to a multiple of it; each is compiled once", range=COUNT
    )
    best_by: str = setting("bleu", "selects the saved model", choices=("bleu", "chrf", "exact"))
    beam: int = setting(5, "width of the search, in evaluation and export", range=COUNT)
    length_penalty: float = setting(1.0, "of the search; 0: none", range=AMOUNT, needs=SEARCHED)
    valid_share: float = inherited(CommonSettings, "valid_share", 0.05, rivals=["valid_source"])

    def check(self) -> None:
        super().check()
        from kerasrnn.layers.encoders import LEAST_LAYERS

        least = LEAST_LAYERS.get(self.encoder, 1)
        if self.encoder_layers < least:
            expected = f"{least} or more with encoder={self.encoder}"
            raise InputError("encoder_layers", expected, self.encoder_layers, "raise it")
        if self.shared_embedding and not self.joint:
            raise InputError("shared_embedding", "joint=true beside it", "joint=false", "add it")


PRESETS = {
    "tiny": Settings(
        units=96,
        embedding=32,
        readout="maxout",
        dropout=0.1,
        label_smoothing=0.0,
        pad_to_multiple=12,
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

TASK = Task(
    name="translator",
    noun="a translator",
    verb="translate",
    about="a translator from aligned text files",
    verb_about="translate line by line",
    package=__package__,
    options=[
        Option(
            "source",
            "a line for each sentence",
            commands=["train", *MEASURING],
            required=True,
            file=True,
        ),
        Option("valid_source", "default: some held out", needs={"train": VALID_TARGET}, file=True),
        Option(
            "target",
            "without it --source is a TSV file",
            commands=["train", *MEASURING],
            needs=dict.fromkeys(MEASURING, SOURCE),
            file=True,
        ),
        Option("valid_target", "default: some held out", needs={"train": VALID_SOURCE}, file=True),
        Option(
            "drop_faulty",
            "drop and count lines that cannot be used",
            value="drop",
            sets="faults",
            default="refuse",
        ),
        Option("level", "what a token is", choices=LEVELS, default="subword"),
        Option("file", "plain or gzip; default: stdin", commands=["translate"], positional=True),
        Option("attention", "draw where each line looked", "PLOT.png", commands=["translate"]),
    ],
    settings=Settings,
    presets=PRESETS,
    takes=[Place("source", Text())],
    gives=[
        Place("text", Text(), many=True),
        Place("score", Number(), many=True),
        Place("target_tokens", Pieces()),
        Place("source_tokens", Pieces("S")),
        Place("attention", Attention("source_tokens")),
    ],
    order=2,
)
