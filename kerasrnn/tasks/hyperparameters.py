"""Every setting that training can be told, by task, and the presets: plain dataclasses.

Nothing here loads TensorFlow: the command line makes its options from them.
"""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class CommonSettings:
    """What every task's training can be told.

    Attributes:
        vocabulary: the most tokens known; 0 for all characters, 30,000 words or 8,000 subwords.
        warmup: share of all steps in which the learning rate rises.
        accumulate: batches whose mean gradient makes one step.
        ema: momentum of averaged weights, which are then validated and kept; 0 for none.
        average_last: how many of the last epochs are averaged, as a last candidate for the best
            model; 0 for none.
        patience: epochs without a better model after which training ends; 0 for never. With
            schedule=plateau the learning rate is halved instead, by default after 3.
        deterministic: the same bits each time; slower.
        valid_share: share of the data held out for validation, where no file is given for it.
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
    average_last: int = 0
    patience: int = 0
    precision: str = "float32"
    deterministic: bool = False
    valid_share: float = 0.1


@dataclass(frozen=True)
class LanguageModelSettings(CommonSettings):
    """What the training of a language model can be told, besides `CommonSettings`.

    Attributes:
        embeddings: a file of GloVe or word2vec vectors.
        window: steps of truncated back-propagation.
        valid_share: the last part of the text, held out for validation.
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
    """What the training of a translator can be told, besides `CommonSettings`.

    Attributes:
        joint: one tokenizer for both sides.
        scheduled_sampling: share of the target's words that the model's own words replace.
        max_tokens: of a side, in training and in what is written.
        max_length_ratio: of the longer side to the shorter one; other pairs are left out.
        batch_by: what `batch_size` counts: "sentences", or "tokens" of the longer side with
            its padding.
        pad_to_multiple: lengths are padded to a multiple of it; XLA compiles each length once.
        best_by: the metric that selects the saved model.
        beam, length_penalty: of the search, in evaluation and export.
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
    scheduled_sampling: float = 0.0
    max_tokens: int = 100
    max_length_ratio: float = 9.0
    batch_by: str = "sentences"
    pad_to_multiple: int = 4
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
        pad_to_multiple=12,
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
    """What the training of a captioner can be told, besides `CommonSettings`.

    Attributes:
        backbone, image_size, trainable_stages: as in `ImageEncoder`. With `trainable_stages=0`
            each image's features are computed once and kept.
        lowercase: captions are made lower case.
        context_dropout: as in `Decoder`.
        coverage_weight, reinforce_weight, entropy_weight: as in `Captioner`.
        batch_size: counts captions.
        max_tokens: of a caption.
        flip: half of the images are mirrored in training.
        min_crop: least share of a side that stays in a random crop; 1 for none.
        colour_jitter: largest change of brightness, contrast and saturation; 0 for none.
        pad_to_multiple: lengths are padded to a multiple of it; XLA compiles each length once.
        best_by: the metric that selects the saved model.
        beam, length_penalty: of the search, in evaluation and export.
    """

    backbone: str = "small"
    image_size: int = 128
    trainable_stages: int = -1
    lowercase: bool = True
    cell: str = "lstm"
    units: int = 256
    embedding: int = 128
    layers: int = 1
    conditioning: str = "gated"
    attention: str = "additive"
    readout: str = "deep"
    coverage_weight: float = 0.0
    reinforce_weight: float = 0.05
    entropy_weight: float = 0.01
    dropout: float = 0.3
    context_dropout: float = 0.0
    label_smoothing: float = 0.0
    max_tokens: int = 40
    flip: bool = False
    min_crop: float = 1.0
    colour_jitter: float = 0.0
    pad_to_multiple: int = 8
    best_by: str = "nats"
    beam: int = 3
    length_penalty: float = 0.0


CAPTIONER = {
    "tiny": CaptionerSettings(
        image_size=64,
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
        min_crop=0.8,
        colour_jitter=0.3,
        batch_size=32,
        epochs=14,
        learning_rate=2e-3,
    ),
}


PRESETS = {"lm": LANGUAGE_MODEL, "translator": TRANSLATOR, "captioner": CAPTIONER}
