"""Language models from text files to a run folder and back: what the command line wires."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.pipelines.service import Service
from kerasrnn.pipelines.text import (
    IdStream,
    Position,
    Report,
    contiguous,
    encode,
    read_texts,
    shuffled,
)
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.lm.task import TASK, Settings
from kerasrnn.tasks.measuring import TOKENS, Known, Measured
from kerasrnn.tasks.session import TrainingSession
from kerasrnn.tasks.training import (
    Data,
    Monitoring,
    ids_said,
    optimizer_of,
    tokenizer_of,
)
from kerasrnn.tasks.work import Examples, Work
from kerasrnn.text.tokenizers import Tokenizer

IDS, VALID = "ids.bin", "valid.bin"
SCORES = ("val_nats",)
Job = TASK.job


def make_tokenizer(job: Job) -> Tokenizer:
    """A tokenizer for the job's text."""
    return tokenizer_of(job.level, read_texts(job.text, faults=job.faults), job.settings.vocabulary)


def make_model(
    job: Job, tokenizer: Tokenizer, steps: int, say: Callable[[str], None]
) -> LanguageModel:
    """A new compiled model; `steps` is the length of all training."""
    s = job.settings
    vectors = None
    if s.embeddings:
        from kerasrnn.pipelines.embeddings import load_vectors

        vectors = load_vectors(s.embeddings, tokenizer.pieces, job.seed)
        say(f"{s.embeddings}: {vectors}")
    names = ("cell", "units", "layers", "dropout", "recurrent_dropout", "tied", "carry_state")
    options = {name: getattr(s, name) for name in names}
    width = vectors.matrix.shape[1] if vectors else s.embedding
    model = LanguageModel(tokenizer, embedding=width, **options)
    if vectors:
        model.embedding.embeddings.assign(vectors.matrix)
        model.embedding.trainable = not s.embeddings_frozen
    model.compile(optimizer_of(s, steps))
    return model


def streams(
    job: Job, tokenizer: Tokenizer, folder: Path, say: Callable[[str], None]
) -> tuple[IdStream, IdStream, Report]:
    """(ids for training, ids for validation, what was read), in files of `folder`."""
    ids, report = encode(job.text, tokenizer, folder / IDS, faults=job.faults)
    if not job.valid_text:
        return *ids.split(1 - job.settings.valid_share), report
    options = {"faults": job.faults, "argument": "valid_text"}
    valid, lost = encode(job.valid_text, tokenizer, folder / VALID, **options)
    say(f"validation: {lost}")
    return ids, valid, report


def moved(folder: Path, *ids: IdStream) -> list[IdStream]:
    """The streams, whose files are moved to `folder`."""
    # Two streams may share one file.
    files = {file: file.moved(folder / file.path.name) for file in {s.file for s in ids}}
    return [dataclasses.replace(stream, file=files[stream.file]) for stream in ids]


def datasets(job: Job, train: IdStream, valid: IdStream, service: Service | None = None):
    """(position and shard -> training dataset, shard -> validation dataset).

    The service, if there is one, reads the training dataset.
    """
    s = job.settings
    if len(valid) < s.window:
        room, what = f"fills a window of {s.window}", "give more text, or a smaller --window"
        if job.valid_text:
            received = f"{len(valid):,} tokens"
            raise InputError("--valid-text", f"a text that {room}", received, what)
        received = f"{len(train) + len(valid):,} tokens in all"
        expected = f"a text whose last {s.valid_share:.0%}, for validation, {room}"
        raise InputError("--text", expected, received, what)
    # As many rows on any number of replicas, for the figures depend on it.
    rows = min(s.batch_size, len(valid) // s.window)

    def at(position: Position, shard: tuple[int, int]) -> tf.data.Dataset:
        where = {"position": position, "shard": shard, "service": service}
        if s.carry_state:
            return contiguous(train, s.batch_size, s.window, **where)
        return shuffled(train, s.batch_size, s.window, seed=job.seed, **where)

    return at, lambda shard: contiguous(valid, rows, s.window, whole=True, shard=shard)


class TextExamples(Examples):
    """A text for training and one for validation, as ids in files."""

    def __init__(self, job: Job, session: TrainingSession, folder: Path):
        self.job, self.session = job, session
        known = session.known
        self.tokenizer = known.tokenizer if known else make_tokenizer(job)
        *self.ids, report = streams(job, self.tokenizer, folder, session.say)
        replicas = session.strategy.num_replicas_in_sync
        self.batches = len(datasets(job, *self.ids)[0](Position(), (0, replicas)))
        self.said = f"{report}; {ids_said([self.tokenizer], job.settings.vocabulary)}"

    def make(self, steps):
        return make_model(self.job, self.tokenizer, steps, self.session.say)

    def place(self, run, model):
        self.ids = moved(run, *self.ids)

    def data(self):
        s = self.job.settings
        at, held_out = datasets(self.job, *self.ids, self.session.service)
        return Data(at, held_out, self.batches, s.batch_size * s.window)

    def monitoring(self, model):
        return Monitoring(SCORES, lambda epoch: _sample(model, self.job.seed))

    def carried(self, model):
        return model.training_state if self.job.settings.carry_state else None


def _sample(model: LanguageModel, seed: int) -> str:
    return model.generate([""], 200, temperature=0.8, seed=seed)[0]


def measured_ids(known: Known, text: list[str] | None, folder: Path) -> tuple[IdStream, Report]:
    """The ids of the files given, or of what the run was validated on, and what was read.

    Raises:
        InputError: when the run or a file cannot be used, or the text changed.
    """
    job, [tokenizer] = known.job, known.tokenizers
    if not text:
        name = "valid_text" if job.valid_text else "text"
        run_data.check_recorded(run_folder.read_config(known.run), [name], "--text")
    files, faults = text or job.valid_text or job.text, job.faults if job else "refuse"
    ids, report = encode(files, tokenizer, folder / IDS, faults=faults)
    if not (text or job.valid_text):
        _, ids = ids.split(1 - known.settings.valid_share)
    return ids, report


def windows_of(ids: IdStream, settings: Settings) -> tf.data.Dataset:
    """Windows for measuring, the last one shorter; of a short text fewer rows."""
    rows = max(1, min(settings.batch_size, len(ids) // settings.window))
    return contiguous(ids, rows, min(settings.window, len(ids)), whole=True)


def truths_of(windows: tf.data.Dataset, carried: bool) -> Iterator[dict]:
    """What `scoring` takes: a window follows the one before, or each begins anew."""
    for number, (ids, targets) in enumerate(windows.as_numpy_iterator()):
        fresh = np.full(len(ids), not (carried and number), np.int32)
        yield {"ids": targets, "previous": np.ascontiguousarray(ids[:, 0]), "fresh": fresh}


def characters_of(ids: IdStream, tokenizer: Tokenizer) -> int:
    """How many characters ids stand for."""
    values = np.memmap(ids.file.path, ids.file.dtype, "r")[ids.start : ids.stop]
    counts = np.bincount(values, minlength=tokenizer.size)
    return int(counts @ np.array(tokenizer.characters_per_id))


class LanguageModelWork(Work):
    """Language models from text files to a run folder and back."""

    def read(self, job, session, folder):
        return TextExamples(job, session, folder)

    def measured(self, known, folder, say, few=False, text=None):
        settings = known.settings
        ids, report = measured_ids(known, text, folder)
        windows = windows_of(ids, settings)
        rows = windows.element_spec[0].shape[0]
        length = min(len(ids) // rows, TOKENS // rows) if few else len(ids) // rows
        # Rows of equal length: fewer than `rows` ids are left over.
        ids = dataclasses.replace(ids, stop=ids.start + rows * length)
        return Measured(
            truths=truths_of(windows_of(ids, settings), settings.carry_state),
            units=characters_of(ids, known.tokenizers[0]),
            said={"tokens": len(ids), "unknown_in_text": report.unknown},
        )

    def cost(self, nats, count, measured):
        bits = nats / math.log(2) / measured.units if measured.units else 0.0
        mean = super().cost(nats, count, measured)
        return {"nats": mean["nats"], "bits_per_character": bits, **mean}


WORK = LanguageModelWork(TASK)
