"""Every setting that training can be told, by task, and the presets: plain dataclasses.

Nothing here loads TensorFlow: the command line makes its options from them.
"""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class CommonSettings:
    """What every task's training can be told.

    `vocabulary` is the most tokens known (0: all characters, 30,000 words, 8,000 subwords);
    `warmup` a share of all steps; `accumulate` the batches of one step; `ema` the momentum of
    averaged weights, which are then what is validated and kept; `average` the last epochs whose
    mean is tried at the end; after `patience` epochs without
    a better model training ends, with schedule=plateau the rate is halved (0: never, and 3);
    `deterministic` runs slower and gives the same bits each time; `valid_share` of the data is
    held out where nothing else says what validates.
    """

    vocabulary: int = 0
    batch_size: int = 64
    epochs: int = 20
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.05
    clip: str = "global_norm"
    clip_at: float = 1.0
    accumulate: int = 1
    ema: float = 0.0
    average: int = 0
    patience: int = 0
    precision: str = "float32"
    deterministic: bool = False
    valid_share: float = 0.1


@dataclass(frozen=True)
class LanguageModelSettings(CommonSettings):
    """Every hyperparameter of a language model's training, those of `CommonSettings` among them.

    `embeddings` is a GloVe or word2vec file; `window` the steps of truncated back-propagation;
    `valid_share` the last part of the text, kept for validation.
    """

    cell: str = "lstm"
    units: int = 256
    layers: int = 2
    embedding: int | str = 128
    embeddings: str = ""
    embeddings_frozen: bool = False
    dropout: float = 0.2
    recurrent_dropout: float = 0.0
    tied: bool = False
    carry_state: bool = True
    batch_size: int = 32
    window: int = 100
    epochs: int = 10
    optimizer: str = "adamw"
    learning_rate: float = 3e-3
    weight_decay: float = 0.01


LANGUAGE_MODEL = {
    "tiny": LanguageModelSettings(
        units=128, layers=1, embedding=32, dropout=0.1, epochs=10, learning_rate=5e-3
    ),
    "small": LanguageModelSettings(),
    "shakespeare": LanguageModelSettings(
        units=384,
        dropout=0.25,
        batch_size=32,
        window=128,
        epochs=18,
        learning_rate=3e-3,
        weight_decay=0.05,
    ),
}


@dataclass(frozen=True)
class TranslatorSettings(CommonSettings):
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


TRANSLATOR = {
    "tiny": TranslatorSettings(
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
    "small": TranslatorSettings(joint=True, shared_embedding=True),
    "multi30k": TranslatorSettings(
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


@dataclass(frozen=True)
class CaptionerSettings(CommonSettings):
    """Every hyperparameter of a captioner's training, those of `CommonSettings` among them.

    `network`, `size` and `trained` as in `ImageEncoder`, with `trained=0` features are computed
    once and kept; `context_dropout` as in `Decoder`; `lowercase` whether captions are; `balance`,
    `reward` and `curiosity` as in `Captioner`; `longest` the most tokens of a caption; `flip`
    whether half of the images are mirrored in training, `crop` the least share of a side kept,
    `colour` the most change of brightness, contrast and saturation; `batch_size` counts captions;
    `multiple` is that of padded lengths, each of which is compiled for; `best_by` the figure that
    chooses the best model; `beam` and `length_penalty` those of evaluation and export.
    """

    network: str = "small"
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


CAPTIONER = {
    "tiny": CaptionerSettings(
        size=64,
        units=64,
        embedding=64,
        dropout=0.05,
        context_dropout=0.5,
        batch_size=32,
        epochs=6,
        learning_rate=4e-3,
    ),
    "small": CaptionerSettings(),
    "flickr8k": CaptionerSettings(
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


PRESETS = {"lm": LANGUAGE_MODEL, "translator": TRANSLATOR, "captioner": CAPTIONER}
