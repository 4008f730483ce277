"""What a language model declares."""

from __future__ import annotations

from dataclasses import dataclass

from kerasrnn.base.choices import LEVELS
from kerasrnn.kinds import Place, Text
from kerasrnn.tasks.common import CELL, CommonSettings, TokenSettings
from kerasrnn.tasks.settings import COUNT, SHARE, Need, inherited, setting
from kerasrnn.tasks.task import MEASURING, Option, Task

VECTORS = Need("--embeddings", lambda v: v["embeddings"])


@dataclass(frozen=True)
class Settings(TokenSettings):
    """What the training of a language model can be told."""

    cell: str = setting("lstm", "the recurrent cell, or module:Class of --import", **CELL)
    units: int = setting(256, "of each layer's state", range=COUNT)
    layers: int = setting(2, "recurrent layers", range=COUNT)
    embedding: int | str = setting(
        128, "the width of a token's vector, or one-hot", rivals=["embeddings"]
    )
    embeddings: str = setting("", "a file of GloVe or word2vec vectors")
    embeddings_frozen: bool = setting(False, "these vectors stay as they are", needs=VECTORS)
    dropout: float = setting(0.2, "share of units left out at random", range=SHARE)
    recurrent_dropout: float = setting(0.0, "the same, of the states", range=SHARE)
    tied: bool = setting(False, "the output layer has the weights of the embedding")
    carry_state: bool = setting(True, "a batch begins with the states of the one before")
    batch_size: int = inherited(CommonSettings, "batch_size", 32)
    window: int = setting(100, "steps of truncated back-propagation", range=COUNT)
    epochs: int = inherited(CommonSettings, "epochs", 10)
    optimizer: str = inherited(CommonSettings, "optimizer", "adamw")
    learning_rate: float = inherited(CommonSettings, "learning_rate", 3e-3)
    weight_decay: float = inherited(CommonSettings, "weight_decay", 0.01)
    valid_share: float = inherited(
        CommonSettings,
        "valid_share",
        0.1,
        help="the last part of the text, held out for validation",
        rivals=["valid_text"],
    )

    def check(self) -> None:
        super().check()
        if self.tied and not self.embeddings:  # such a file says only later how wide it is
            from kerasrnn.models.language_model import check_tied

            check_tied(self.embedding, self.units)


PRESETS = {
    "tiny": Settings(units=128, layers=1, embedding=32, dropout=0.1, epochs=10, learning_rate=5e-3),
    "small": Settings(),
    "shakespeare": Settings(
        units=384,
        dropout=0.25,
        batch_size=32,
        window=128,
        epochs=18,
        learning_rate=3e-3,
        weight_decay=0.05,
    ),
}

DRAWN = {"generate": Need("--temperature above 0", lambda v: v["temperature"] != 0)}
GENERATE = ["generate"]
GENERATION = [
    Option("prompt", "text to go on with; may be given again", "TEXT", GENERATE, again=True),
    Option("length", "most tokens to add (200)", "N", GENERATE, kind=int, default=200),
    Option("temperature", "0 takes the likeliest (1.0)", "T", GENERATE, kind=float, default=1.0),
    Option(
        "top_k",
        "draw from the k likeliest; 0: all (0)",
        "K",
        GENERATE,
        kind=int,
        default=0,
        needs=DRAWN,
    ),
    Option(
        "top_p",
        "draw from the likeliest share (1.0)",
        "P",
        GENERATE,
        kind=float,
        default=1.0,
        needs=DRAWN,
    ),
    Option("seed", "the same seed gives the same text", "N", GENERATE, kind=int, needs=DRAWN),
    Option(
        "suggest",
        "say the K likeliest endings of the word begun, or next words",
        "K",
        GENERATE,
        kind=int,
    ),
]

TASK = Task(
    name="lm",
    noun="a language model",
    verb="generate",
    about="a language model from text files",
    verb_about="go on with a text",
    package=__package__,
    options=[
        Option(
            "text",
            "plain or gzip UTF-8",
            commands=["train", *MEASURING],
            required=True,
            many=True,
            file=True,
        ),
        Option(
            "valid_text", "default: the last part of the text (valid_share)", many=True, file=True
        ),
        Option(
            "drop_faulty",
            "drop and count lines that are not UTF-8",
            value="drop",
            sets="faults",
            default="refuse",
        ),
        Option("level", "what a token is", choices=LEVELS, default="char"),
        *GENERATION,
    ],
    settings=Settings,
    presets=PRESETS,
    takes=[Place("prompt", Text())],
    gives=[Place("text", Text())],
    order=1,
)
