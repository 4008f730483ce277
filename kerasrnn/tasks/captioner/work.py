"""Captioners from images and captions to a run folder and back: what the command line wires."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sacrebleu

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.images import ImageEncoder, check_network
from kerasrnn.models.captioner import Captioner
from kerasrnn.pipelines.batching import plan
from kerasrnn.pipelines.captions import Captioned, batches, encode_captions, read_captions
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.images import read_image
from kerasrnn.pipelines.store import Store
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.captioner.data import (
    augment_of,
    digest_of,
    filled_store,
    sides_of,
    store_of,
    used,
)
from kerasrnn.tasks.captioner.task import PRESETS, TASK, Settings
from kerasrnn.tasks.quantizing import IMAGES as MEASURED
from kerasrnn.tasks.quantizing import Measure, exported_texts, portions
from kerasrnn.tasks.search import rules_of
from kerasrnn.tasks.session import (
    CommonJob,
    TrainingSession,
    config_of,
    model_to_train,
    open_session,
)
from kerasrnn.tasks.training import (
    Data,
    Monitoring,
    compiled,
    ids_said,
    run_training,
    tokenizer_of,
)
from kerasrnn.text.tokenizers import Tokenizer
from kerasrnn.training.callbacks import Scores

__all__ = ["PRESETS", "Job", "Settings", "evaluate", "train"]

SIDES = ("training", "validation")
SHOWN = 4  # example captions after each epoch
ROWS = 32  # images captioned at once
WORD = re.compile(r"\w+(?:['’]\w+)*")
BLEU = {
    n: sacrebleu.BLEU(max_ngram_order=n, tokenize="none", smooth_method="none", force=True)
    for n in (1, 2, 3, 4)
}


@dataclasses.dataclass(frozen=True)
class Job(CommonJob):
    """One `train captioner` command: which images and captions, what settings, where to.

    Without `valid_captions` the file's own split or a part of the images validates.
    """

    images: str
    captions: str
    level: str
    settings: Settings
    seed: int
    out: str
    valid_captions: str | None = None
    cnn_weights: str | None = None
    cache: str | None = None
    strict: bool = False

    def files(self) -> dict:
        """Where its data is, by what it is for."""
        names = ("images", "captions", "valid_captions", "cache")
        weights = {"cnn_weights": self.cnn_weights} if self._has_weights() else {}
        return {name: getattr(self, name) for name in names} | weights

    def config(self) -> dict:
        """What `config.json` holds."""
        names = ("level", "seed", "strict")
        names += () if self._has_weights() else ("cnn_weights",)  # a word
        digests = {"images": digest_of(sides_of(self)), "cache": None}
        return config_of(TASK.name, self, names, digests)

    def _has_weights(self) -> bool:
        """Whether the network's weights are a file."""
        return bool(self.cnn_weights) and Path(self.cnn_weights).is_file()


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


def train(job: Job, say: Callable[[str], None], verbose: int = 1) -> dict:
    """Train, or go on with, the job's run.

    Returns:
        The row of `history.csv` of the best model.

    Raises:
        InputError: when captions, an image, a setting or the run folder cannot be used.
        Interrupted: when the user stopped it; the same job goes on.
    """
    job.settings.check()
    check_network(job.settings.backbone, job.settings.image_size, job.cnn_weights)
    with open_session(job, say) as session:
        return _train(job, session, verbose)


def _train(job: Job, session: TrainingSession, verbose: int) -> dict:
    s, say = job.settings, session.say
    # Everything that can be refused is, before the run folder is touched.
    with session.strategy.scope():
        encoder = None if session.model else make_encoder(s, job.cnn_weights)
    sides = [used(name, side, job, say) for name, side in zip(SIDES, sides_of(job), strict=True)]
    words = (caption for one in sides[0] for caption in one.captions)
    known = session.known
    tokenizer = known.tokenizer if known else tokenizer_of(job.level, words, s.vocabulary)
    examples, report = encode_captions(sides[0], tokenizer, s.max_tokens)
    valid, _ = encode_captions(sides[1], tokenizer)
    options = {"batch_size": s.batch_size, "pad_to_multiple": s.pad_to_multiple}
    count = len(plan(examples, seed=job.seed, **options))
    model = model_to_train(
        session, job, lambda: make_model(s, tokenizer, encoder, count * s.epochs)
    )
    run_data.check_data(session.stamps)
    run = run_folder.open_run(session.out, session.config, job.overwrite)
    say(f"{report}; {ids_said([tokenizer], s.vocabulary)}")
    store = filled_store(model, job, run, session, [one.image for side in sides for one in side])
    augment = augment_of(s, job.seed)

    def at(position: Position, shard: tuple[int, int]):
        where = {"seed": job.seed, "position": position, "shard": shard, "service": session.service}
        return batches(examples, store, augment=augment, **where, **options)

    tokens = (int(examples.target_lengths.sum()) + len(examples)) / count
    return run_training(
        model,
        session,
        Data(at, lambda shard: batches(valid, store, shard=shard, **options), count, tokens),
        s,
        _monitoring(model, sides[1], store, s),
        verbose=verbose,
    )


def _monitoring(model: Captioner, valid: list[Captioned], store: Store, s: Settings) -> Monitoring:
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


def chosen_by(s: Settings) -> list[str]:
    """The scores that choose the best model: `best_by`, of equal ones the others."""
    others = (name for name in ("bleu_4", "nats") if name != s.best_by)
    return [f"val_{name}" for name in (s.best_by, *others)]


def _sample(model: Captioner, captioned, store: Store, settings: Settings) -> str:
    rules = rules_of(model, settings, beam=1)
    found = caption_all(model, captioned, store, rules, settings.max_tokens)
    rows = zip(captioned, found, strict=True)
    return "\n".join(f"  {c.image.name}\n= {c.captions[0]}\n> {text}\n" for c, text in rows)


def measured_images(
    run: str | Path,
    images: str | None,
    captions: str | None,
    split: str | None,
    say: Callable[[str], None],
) -> tuple[Job, list[Captioned]]:
    """The run's job, and the images given or those it was validated on that can be used.

    Of a file that names splits these are the images of `split`; of a file that is given without
    one they are those for testing, where it has any, else for validation, else for training.

    Raises:
        InputError: when the run, an image or a file cannot be used, the captions changed, or the
            file has no such split.
    """
    job = run_folder.read_job(run, Job, Settings)
    if not captions:
        names = ["valid_captions" if job.valid_captions else "captions"]
        options = "--images and --captions"
        run_data.check_recorded(run_folder.read_config(run), names, options)
        if not Path(images or job.images).is_dir():
            received = f"{job.images}, which is gone"
            raise InputError("RUN", run_data.TRAINED_ON, received, f"give {options}")
    if captions or split:
        file = captions or job.valid_captions or job.captions
        rows = read_captions(file, images or job.images, lowercase=job.settings.lowercase)
        rows = of_split(rows, split, file)
    else:
        _, rows = sides_of(job)
    return job, used("validation", rows, job, say)


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


def evaluate(
    run: str | Path,
    images: str | None = None,
    captions: str | None = None,
    split: str | None = None,
    *,
    drawn: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> dict:
    """BLEU-1 to 4 of beam search, and perplexity, of a run's best model.

    Args:
        run: the run folder.
        images, captions: a folder and a file; None for those it was validated on.
        split: "train", "val" or "test", of the file; None as `measured_images` says.
        drawn: whether hard attention draws its places, instead of taking the likeliest.

    Returns:
        "bleu_1" to "bleu_4", as `scores` gives them; "nats" and "perplexity" per token; "images",
        how many; "split", where the file of captions names one.

    Raises:
        InputError: when the run, an image or the file cannot be used.
    """
    model = run_folder.load_model(run)
    if drawn:
        model.drawn = True
    job, captioned = measured_images(run, images, captions, split, say)
    s = job.settings
    store = store_of(model, job, Path(run))
    if not store.folder.is_dir():  # training made it, or config.json names a place of its own
        store = store_of(model, dataclasses.replace(job, cache=None), Path(run))
    store.fill(one.image for one in captioned)
    examples, _ = encode_captions(captioned, model.tokenizer)
    data = batches(examples, store, batch_size=s.batch_size, pad_to_multiple=s.pad_to_multiple)
    values = model.evaluate(data, return_dict=True, verbose=0)
    found = caption_all(model, captioned, store, rules_of(model, s), s.max_tokens)
    figures = scores(found, [one.captions for one in captioned])
    nats = {name: values[name] for name in ("nats", "perplexity")}
    return {**figures, **nats, "images": len(captioned), **split_of(captioned)}


def measure_of(run, model, say, images, captions, split) -> Measure:
    """Return the measure of a captioner, on the first `IMAGES` images."""
    _, examples = measured_images(run, images, captions, split, say)
    examples = examples[:MEASURED]
    references = [example.captions for example in examples]

    def measure(path: Path, kind: str | None) -> dict:
        # Photos at full size may not fit into memory together, so they are read in portions.
        cases = ({"image": read_image(example.image)[np.newaxis]} for example in examples)
        texts = [text for portion in portions(cases) for text in exported_texts(path, portion)]
        return scores(texts, references) | {"images": len(examples), **split_of(examples)}

    return measure
