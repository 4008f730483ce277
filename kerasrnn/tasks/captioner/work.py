"""Captioners from images and captions to a run folder and back: what the command line wires."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sacrebleu

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.kinds.texts import strings
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.images import ImageEncoder, check_network
from kerasrnn.models.captioner import Captioner
from kerasrnn.pipelines.batching import plan
from kerasrnn.pipelines.captions import Captioned, batches, encode_captions, read_captions
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.store import Store
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.captioner.data import (
    augment_of,
    digest_of,
    filled_store,
    pixels_store,
    sides_of,
    store_of,
    used,
)
from kerasrnn.tasks.captioner.task import TASK, Settings
from kerasrnn.tasks.measuring import IMAGES, Known, Measured
from kerasrnn.tasks.search import rules_of
from kerasrnn.tasks.session import TrainingSession
from kerasrnn.tasks.training import (
    Data,
    Monitoring,
    compiled,
    ids_said,
    tokenizer_of,
)
from kerasrnn.tasks.work import Examples, Work
from kerasrnn.text.tokenizers import Tokenizer
from kerasrnn.training.callbacks import Scores

Job = TASK.job
SIDES = ("training", "validation")
SHOWN = 4  # example captions after each epoch
ROWS = 32  # images captioned at once
WORD = re.compile(r"\w+(?:['’]\w+)*")
BLEU = {
    n: sacrebleu.BLEU(max_ngram_order=n, tokenize="none", smooth_method="none", force=True)
    for n in (1, 2, 3, 4)
}


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


class ImageExamples(Examples):
    """Images with their captions, for training and for validation."""

    def __init__(self, job: Job, session: TrainingSession):
        self.job, self.session, s = job, session, job.settings
        with session.strategy.scope():
            self.encoder = None if session.model else make_encoder(s, job.cnn_weights)
        sides = zip(SIDES, sides_of(job), strict=True)
        self.sides = [used(name, side, job.strict, session.say) for name, side in sides]
        words = (caption for one in self.sides[0] for caption in one.captions)
        known = session.known
        self.tokenizer = known.tokenizer if known else tokenizer_of(job.level, words, s.vocabulary)
        self.examples, report = encode_captions(self.sides[0], self.tokenizer, s.max_tokens)
        self.valid, _ = encode_captions(self.sides[1], self.tokenizer)
        self.options = {"batch_size": s.batch_size, "pad_to_multiple": s.pad_to_multiple}
        self.batches = len(plan(self.examples, seed=job.seed, **self.options))
        self.said = f"{report}; {ids_said([self.tokenizer], s.vocabulary)}"

    def make(self, steps):
        return make_model(self.job.settings, self.tokenizer, self.encoder, steps)

    def place(self, run, model):
        images = [one.image for side in self.sides for one in side]
        self.store = filled_store(model, self.job, run, self.session, images)

    def data(self):
        seed, service, store = self.job.seed, self.session.service, self.store
        augment, examples = augment_of(self.job.settings, seed), self.examples

        def at(position: Position, shard: tuple[int, int]):
            where = {"seed": seed, "position": position, "shard": shard, "service": service}
            return batches(examples, store, augment=augment, **where, **self.options)

        tokens = (int(examples.target_lengths.sum()) + len(examples)) / self.batches
        return Data(
            at,
            lambda shard: batches(self.valid, store, shard=shard, **self.options),
            self.batches,
            tokens,
        )

    def monitoring(self, model):
        s, store, valid = self.job.settings, self.store, self.sides[1]
        return Monitoring(
            chosen_by(s),
            lambda epoch: _sample(model, valid[:SHOWN], store, s),
            [Scores(lambda: validation(model, valid, store, s))],
        )


def caption_all(
    model: Captioner, captioned: Sequence[Captioned], store: Store, rules: BeamRules, longest: int
) -> list[str]:
    """The best caption of each image that the store holds."""
    found = []
    for start in range(0, len(captioned), ROWS):
        images = store.read([one.image for one in captioned[start : start + ROWS]])
        found += model.caption(images, rules=rules, max_length=longest)
    return found


def scores(found: list[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to 4 of captions with several references each, in percent.

    As the caption papers have it (Chen et al. 2015): words in lower case without punctuation,
    n-grams of the whole corpus, the reference of the closest length, no smoothing.

    >>> scores(["a red circle"], [["A red circle.", "one red circle"]])["bleu_3"]
    100.0
    """
    words = [" ".join(WORD.findall(text.lower())) for text in found]
    most = max(map(len, references))
    streams = [
        [" ".join(WORD.findall(r[i].lower())) if i < len(r) else None for r in references]
        for i in range(most)
    ]
    return {
        f"bleu_{n}": round(metric.corpus_score(words, streams).score, 10)
        for n, metric in BLEU.items()
    }


def validation(model: Captioner, captioned, store: Store, settings: Settings) -> dict:
    """`scores` of greedy captions, as columns of the history."""
    found = caption_all(
        model, captioned, store, rules_of(model, settings, beam=1), settings.max_tokens
    )
    figures = scores(found, [one.captions for one in captioned])
    return {f"val_{name}": value for name, value in figures.items()}


def chosen_by(s: Settings) -> Sequence[str]:
    """The scores that choose the best model: `best_by`, of equal ones the others."""
    known = ("+val_bleu_4", "val_nats")
    return known if s.best_by == "bleu_4" else known[::-1]


def _sample(model: Captioner, captioned, store: Store, settings: Settings) -> str:
    rules = rules_of(model, settings, beam=1)
    found = caption_all(model, captioned, store, rules, settings.max_tokens)
    rows = zip(captioned, found, strict=True)
    return "\n".join(f"  {c.image.name}\n= {c.captions[0]}\n> {text}\n" for c, text in rows)


def measured_images(
    known: Known,
    images: str | None,
    captions: str | None,
    split: str | None,
    say: Callable[[str], None],
) -> list[Captioned]:
    """The images given or those that the run was validated on, that can be used.

    Of a file that names splits these are the images of `split`; of a file that is given without
    one they are those for testing, where it has any, else for validation, else for training.

    Raises:
        InputError: when the run, an image or a file cannot be used, the captions changed, or the
            file has no such split.
    """
    job, lowercase = known.job, known.settings.lowercase
    if not captions:
        names = ["valid_captions" if job.valid_captions else "captions"]
        options = "--images and --captions"
        run_data.check_recorded(run_folder.read_config(known.run), names, options)
        if not Path(images or job.images).is_dir():
            received = f"{job.images}, which is gone"
            raise InputError("RUN", run_data.TRAINED_ON, received, f"give {options}")
    if captions or split:
        file = captions or job.valid_captions or job.captions
        rows = read_captions(file, images or job.images, lowercase=lowercase)
        rows = of_split(rows, split, file)
    else:
        _, rows = sides_of(job)
    return used("validation", rows, job and job.strict, say)


def of_split(captioned: list[Captioned], name: str | None, file: str) -> list[Captioned]:
    """The images of a split, as `measured_images` says; all of a file that names none.

    Raises:
        InputError: when the file does not have the split that is asked for.
    """
    known = [split for split in ("test", "val", "train") if split in {c.split for c in captioned}]
    if name and name not in known:
        received = f"{file}, which has {' and '.join(known) or 'no splits'}"
        step = f"choose {' or '.join(known)}" if known else "leave it out"
        raise InputError("--split", f"a file with the split {name}", received, step)
    name = name or (known[0] if known else "")
    return [one for one in captioned if one.split == name]


def split_of(captioned: list[Captioned]) -> dict[str, str]:
    """ "split": of the images, as part of the figures; nothing where they are of none."""
    names = ", ".join(sorted({one.split for one in captioned} - {""}))
    return {"split": names} if names else {}


class CaptionerWork(Work):
    """Captioners from images and captions to a run folder and back."""

    def check(self, job):
        check_network(job.settings.backbone, job.settings.image_size, job.cnn_weights)

    def digests(self, job):
        return {"images": digest_of(sides_of(job)), "cache": None}

    def read(self, job, session, folder):
        return ImageExamples(job, session)

    def measured(
        self, known, folder, say, few=False, images=None, captions=None, split=None, drawn=False
    ):
        if drawn:
            draw_places(known.model)
        captioned = measured_images(known, images, captions, split, say)
        captioned = captioned[:IMAGES] if few else captioned
        store = measured_store(known, folder)
        store.fill(one.image for one in captioned)
        features = known.model is not None and known.model.encoder.frozen
        return Measured(
            cases=({"image": images} for images, _ in in_batches(captioned, store)),
            references=[one.captions for one in captioned],
            truths=(
                {"image": images[rows], "target": strings(targets)}
                for images, part in in_batches(captioned, store)
                for rows, targets in rounds([one.captions for one in part])
            ),
            said={"images": len(captioned), **split_of(captioned)},
            asked={"features": True} if features else {},
        )

    def judge(self, answers, references):
        """BLEU-1 to 4, as `scores` gives them."""
        found = [text for answer in answers for text in answer["text"][:, 0].tolist()]
        return scores(found, references)


def draw_places(model: Captioner | None) -> None:
    """Let hard attention draw; refuse an exported model, which cannot (InputError)."""
    if model is None:
        expected = "a run beside it: an export looks at the likeliest place"
        raise InputError("--drawn", expected, "an exported model", "leave it out")
    model.drawn = True


def measured_store(known: Known, folder: Path) -> Store:
    """Where what is made of the images is: by the training of a run, else in `folder`."""
    if known.model is None:
        return pixels_store(folder, known.takes[0].kind.size)
    store = store_of(known.model, known.job, known.run)
    if not store.folder.is_dir():  # training made it, or config.json names a place of its own
        store = store_of(known.model, dataclasses.replace(known.job, cache=None), known.run)
    return store


def in_batches(captioned: Sequence[Captioned], store: Store) -> Iterator[tuple]:
    """What the store has of some images, and these images with their captions, in turn."""
    for start in range(0, len(captioned), ROWS):
        part = captioned[start : start + ROWS]
        yield store.read([one.image for one in part]), part


def rounds(captions: Sequence[Sequence[str]]) -> Iterator[tuple[list[int], list[str]]]:
    """The first caption of each image that has one, then the second, and so on.

    >>> list(rounds([("a", "b"), ("c",)]))
    [([0, 1], ['a', 'c']), ([0], ['b'])]
    """
    for number in range(max(map(len, captions))):
        rows = [i for i, texts in enumerate(captions) if len(texts) > number]
        yield rows, [captions[i][number] for i in rows]


WORK = CaptionerWork(TASK)
