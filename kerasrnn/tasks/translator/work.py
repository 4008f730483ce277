"""Translators from aligned text to a run folder and back: what the command line wires."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import sacrebleu

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import ENCODERS
from kerasrnn.models.translator import Translator
from kerasrnn.pipelines.batching import batches
from kerasrnn.pipelines.dataset import is_held_out
from kerasrnn.pipelines.pairs import Limits, PairReport, Pairs, encode_pairs, read_pairs
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.catalog import check_needs
from kerasrnn.tasks.measuring import LINES, Known, Measured
from kerasrnn.tasks.search import rules_of
from kerasrnn.tasks.session import TrainingSession
from kerasrnn.tasks.training import (
    Data,
    Monitoring,
    compiled,
    ids_said,
    tokenizer_of,
)
from kerasrnn.tasks.translator.task import TASK, Settings
from kerasrnn.tasks.work import Examples, Work
from kerasrnn.text.tokenizers import Tokenizer
from kerasrnn.training.callbacks import Scores

ROWS = 32  # sentences translated at once where a model is measured
SHOWN = 4  # example translations after each epoch
MOST_VALID = 2000  # pairs held out at most where no validation files are given
FILES = ("source", "target", "valid_source", "valid_target")
TRAIN, VALID = "train.ids", "valid.ids"
Job = TASK.job
METRICS = {
    "bleu": sacrebleu.BLEU(),
    "bleu_lowercase": sacrebleu.BLEU(lowercase=True),
    "chrf": sacrebleu.CHRF(),
}


@dataclasses.dataclass(frozen=True)
class Texts:
    """Aligned files, or one TSV file without a `target`, and which of their pairs are meant.

    Attributes:
        source, target, faults, keep, arguments: as in `read_pairs`.
    """

    source: str
    target: str | None
    faults: str
    keep: Callable[[int], bool] | None = None
    arguments: tuple[str, str] = FILES[:2]

    def pairs(self, report: PairReport | None = None) -> Iterator[tuple[str, str]]:
        """The pairs, in order."""
        return read_pairs(self.source, self.target, report=report, **self._options())

    def encoded(self, tokenizers, out: Path, limits: Limits | None = None):
        """(their ids in the file `out`, a report)."""
        files, options = (self.source, self.target), {"limits": limits, **self._options()}
        return encode_pairs(*files, *tokenizers, out, **options)

    def _options(self) -> dict:
        return {"faults": self.faults, "keep": self.keep, "arguments": self.arguments}


def make_tokenizers(job: Job, texts: Texts) -> tuple[Tokenizer, Tokenizer]:
    """Tokenizers of both sides of the training pairs; one and the same when joint."""

    def made(texts):
        return tokenizer_of(job.level, texts, job.settings.vocabulary)

    if job.settings.joint:
        one = made(text for pair in texts.pairs() for text in pair)
        return one, one
    return made(pair[0] for pair in texts.pairs()), made(pair[1] for pair in texts.pairs())


def make_model(
    s: Settings, tokenizers: tuple[Tokenizer, Tokenizer], steps: int, seed: int
) -> Translator:
    """A new compiled model; see `compiled`."""
    return compiled(lambda: _model(s, *tokenizers, seed), s, steps)


def _model(s: Settings, source: Tokenizer, target: Tokenizer, seed: int) -> Translator:
    shared = {"embedding": s.embedding, "cell": s.cell, "units": s.units, "dropout": s.dropout}
    encoder = ENCODERS[s.encoder](source.size, layers=s.encoder_layers, **shared)
    names = ("conditioning", "attention", "readout")
    options = {name: getattr(s, name) for name in names}
    decoder = Decoder(target.size, layers=s.decoder_layers, **shared, **options)
    both = {
        "shared_embedding": s.shared_embedding,
        "scheduled_sampling": s.scheduled_sampling,
        "seed": seed,
    }
    return Translator(source, target, encoder, decoder, **both)


def hold_out(job: Job, say: Callable[[str], None]) -> tuple[Texts, Texts]:
    """(for training, for validation): the latter are pairs from all over the text."""
    report, files = PairReport(), (job.source, job.target, job.faults)
    total = sum(1 for _ in Texts(*files).pairs(report))
    held = min(round(total * job.settings.valid_share), MOST_VALID)
    if not 0 < held < total:
        raise InputError(
            "--source", "enough pairs to hold some out", total, "give more, or --valid-source"
        )
    say(f"{report}; {held:,} are held out for validation")
    return (
        Texts(*files, keep=lambda number: not is_held_out(number, held, total)),
        Texts(*files, keep=lambda number: is_held_out(number, held, total)),
    )


def texts_of(job: Job, say: Callable[[str], None]) -> tuple[Texts, Texts]:
    """(for training, for validation): the job's own files, or some pairs held out."""
    if not job.valid_source:
        return hold_out(job, say)
    train, valid = (job.source, job.target), (job.valid_source, job.valid_target)
    return Texts(*train, job.faults), Texts(*valid, job.faults, arguments=FILES[2:])


def dataset_of(job: Job, pairs: Pairs, **where):
    """Batches of sentences of similar length; `where` is position, shard and service."""
    s = job.settings
    options = {"batch_size": s.batch_size, "by": s.batch_by, "pad_to_multiple": s.pad_to_multiple}
    return batches(pairs, seed=job.seed, **options, **where)


def _encoded(job: Job, texts: tuple[Texts, Texts], tokenizers, folder: Path, say):
    """(training pairs, validation pairs, report of the first) as ids in files of `folder`."""
    limits = Limits(maximum=job.settings.max_tokens, ratio=job.settings.max_length_ratio)
    pairs, report = texts[0].encoded(tokenizers, folder / TRAIN, limits)
    valid, lost = texts[1].encoded(tokenizers, folder / VALID)
    if lost.dropped:
        say(f"validation: {lost}")
    return pairs, valid, report


class PairExamples(Examples):
    """Pairs for training and for validation, as ids in files."""

    def __init__(self, job: Job, session: TrainingSession, folder: Path):
        self.job, self.session = job, session
        self.texts = texts_of(job, session.say)
        known = session.known
        self.tokenizers = known.tokenizers if known else make_tokenizers(job, self.texts[0])
        encoded = _encoded(job, self.texts, self.tokenizers, folder, session.say)
        self.pairs, self.valid, report = encoded
        self.shown = list(self.texts[1].pairs())
        self.batches = len(dataset_of(job, self.pairs))
        self.said = f"{report}; {ids_said(self.tokenizers, job.settings.vocabulary)}"

    def make(self, steps):
        return make_model(self.job.settings, self.tokenizers, steps, self.job.seed)

    def place(self, run, model):
        self.pairs, self.valid = self.pairs.moved(run / TRAIN), self.valid.moved(run / VALID)

    def data(self):
        job, pairs, service = self.job, self.pairs, self.session.service
        tokens = (int(pairs.target_lengths.sum()) + len(pairs)) / self.batches
        return Data(
            lambda at, shard: dataset_of(job, pairs, position=at, shard=shard, service=service),
            lambda shard: dataset_of(job, self.valid, shard=shard),
            self.batches,
            tokens,
        )

    def monitoring(self, model):
        s, shown = self.job.settings, self.shown
        return Monitoring(
            chosen_by(s),
            lambda epoch: _sample(model, shown[:SHOWN], s),
            [Scores(lambda: validation(model, shown, s))],
        )


def translate_all(model: Translator, sources: list[str], rules: BeamRules, longest: int, rows=32):
    """The best translation of each source, those of similar length at a time."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found = [""] * len(sources)
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        texts = model.translate([sources[i] for i in some], rules=rules, max_length=longest)
        for i, text in zip(some, texts, strict=True):
            found[i] = text
    return found


def scores(found: list[str], references: list[str]) -> dict[str, float]:
    """sacreBLEU's BLEU and chrF, and the share of translations that are exactly the reference.

    >>> scores(["a b c d"], ["a b c d"])
    {'bleu': 100.0, 'chrf': 100.0, 'exact': 1.0}
    """
    figures = {
        name: round(METRICS[name].corpus_score(found, [references]).score, 10)
        for name in ("bleu", "chrf")
    }
    return {**figures, "exact": exact(found, references)}


def exact(found: list[str], references: list[str]) -> float:
    """The share of translations that are exactly the reference."""
    return sum(a == b for a, b in zip(found, references, strict=True)) / len(found)


def validation(model: Translator, pairs: list[tuple[str, str]], settings: Settings) -> dict:
    """`scores` of greedy translations, as columns of the history."""
    sources, references = (list(side) for side in zip(*pairs, strict=True))
    rules = rules_of(model, settings, beam=1)
    found = translate_all(model, sources, rules, settings.max_tokens, rows=64)
    return {f"val_{name}": value for name, value in scores(found, references).items()}


def chosen_by(s: Settings) -> list[str]:
    """The scores that choose the best model: `best_by`, of equal ones the others, then nats."""
    others = (name for name in ("bleu", "chrf", "exact") if name != s.best_by)
    return [*(f"+val_{name}" for name in (s.best_by, *others)), "val_nats"]


def _sample(model: Translator, pairs: list[tuple[str, str]], settings: Settings) -> str:
    rules = rules_of(model, settings, beam=1)
    found = model.translate([s for s, _ in pairs], rules=rules, max_length=settings.max_tokens)
    rows = zip(pairs, found, strict=True)
    return "\n".join(f"  {s}\n= {t}\n> {text}\n" for (s, t), text in rows)


def measured_texts(known: Known, source: str | None, target: str | None) -> Texts:
    """The files given, or the pairs that the run was validated on.

    Raises:
        InputError: when the run cannot be used, or its texts changed.
    """
    job = known.job
    if source:
        return Texts(source, target, job.faults if job else "refuse")
    names = FILES[2:] if job.valid_source else FILES[:2]
    options = "--source" + " and --target" * bool(job.target)
    run_data.check_recorded(run_folder.read_config(known.run), names, options)
    return texts_of(job, lambda text: None)[1]


def in_batches(pairs: Sequence[tuple[str, str]], rows: int = ROWS) -> Iterator[tuple]:
    """Arrays of sources and of targets, `rows` at a time."""
    for start in range(0, len(pairs), rows):
        sides = zip(*pairs[start : start + rows], strict=True)
        yield tuple(np.array(side, object) for side in sides)


class TranslatorWork(Work):
    """Translators from aligned text to a run folder and back."""

    def check(self, job):
        given = [name for name, value in vars(job).items() if value]
        check_needs("train", vars(job), given, TASK.name)

    def read(self, job, session, folder):
        return PairExamples(job, session, folder)

    def measured(self, known, folder, say, few=False, source=None, target=None):
        pairs = list(measured_texts(known, source, target).pairs())
        pairs = pairs[:LINES] if few else pairs
        # Those of similar length together: a batch takes as long as its longest.
        pairs.sort(key=lambda pair: len(pair[0]))
        return Measured(
            cases=({"source": sources} for sources, _ in in_batches(pairs)),
            references=[target for _, target in pairs],
            truths=({"source": s, "target": t} for s, t in in_batches(pairs)),
            said={"lines": len(pairs)},
        )

    def judge(self, answers, references):
        """sacreBLEU's BLEU and chrF with their signatures, and the share of exact translations."""
        found = [text for answer in answers for text in answer["text"][:, 0].tolist()]
        figures = {"exact": exact(found, references)}
        for name, metric in METRICS.items():
            figures[name] = metric.corpus_score(found, [references]).score
            figures[f"{name}_signature"] = str(metric.get_signature())
        return figures


WORK = TranslatorWork(TASK)
