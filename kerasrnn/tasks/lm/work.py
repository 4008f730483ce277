"""Language models from text files to a run folder and back: what the command line wires."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.export.language_model import Served
from kerasrnn.export.quantization import smaller
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
from kerasrnn.tasks.quantizing import TOKENS, Measure
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


def measured_text(run: str | Path, text: list[str] | None, tokenizer: Tokenizer, folder: Path):
    """Windows of the files given, or of what the run was validated on: (dataset, how many tokens,
    what was read).

    Raises:
        InputError: when the run or a file cannot be used, or the text changed.
    """
    job = run_folder.read_job(run, Job, Settings)
    settings = job.settings
    if not text:
        name = "valid_text" if job.valid_text else "text"
        run_data.check_recorded(run_folder.read_config(run), [name], "--text")
    files = text or job.valid_text or job.text
    ids, report = encode(files, tokenizer, folder / IDS, faults=job.faults)
    if not (text or job.valid_text):
        _, ids = ids.split(1 - settings.valid_share)
    rows = max(1, min(settings.batch_size, len(ids) // settings.window))
    window = min(settings.window, len(ids))
    measured = len(ids) // rows * rows  # rows of equal length: fewer than `rows` are left over
    return contiguous(ids, rows, window, whole=True), measured, report


def _nats(reader, model, windows) -> dict:
    """Return the scores of an ONNX graph that reads windows (ids [B, T], targets [B, T])."""
    import onnxruntime

    from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity

    session = onnxruntime.InferenceSession(
        reader.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    metrics = [Nats(), BitsPerCharacter(model.tokenizer.characters_per_id), Perplexity()]
    state_inputs = session.get_inputs()[1:]  # the first input is the ids
    names = [state_input.name for state_input in state_inputs]
    state = [np.zeros([len(windows[0][0]), s.shape[1]], np.float32) for s in state_inputs]
    for ids, targets in windows:
        inputs = {"ids": ids, **dict(zip(names, state, strict=True))}
        logits, *final_state = session.run(None, inputs)
        # Windows follow each other in the text only where the model carries state.
        state = final_state if model.options["carry_state"] else state
        for metric in metrics:
            metric.update_state(targets, logits)
    tokens = sum(int(np.count_nonzero(targets)) for _, targets in windows)  # 0 is padding
    return {metric.name: float(metric.result()) for metric in metrics} | {"tokens": tokens}


class LanguageModelWork(Work):
    """Language models from text files to a run folder and back."""

    def read(self, job, session, folder):
        return TextExamples(job, session, folder)

    def evaluate(self, run, say, text=None) -> dict[str, float]:
        """Nats, bits per character and perplexity of a run's best model."""
        model = run_folder.load_model(run)
        with tempfile.TemporaryDirectory() as folder:
            windows, measured, report = measured_text(run, text, model.tokenizer, Path(folder))
            values = model.evaluate(windows, return_dict=True, verbose=0)
        values.pop("loss")  # `nats`, but for the last, shorter window
        return {**values, "tokens": measured, "unknown_in_text": report.unknown}

    def measure_of(self, run, model, say, text=None) -> Measure:
        """Return the measure of a language model: nats, bits per character and perplexity.

        The exported file generates text and gives no probabilities. So the same weights are
        measured in a second graph, which reads text and is quantized in the same way.
        """
        with tempfile.TemporaryDirectory() as folder:
            windows, _, _ = measured_text(run, text, model.tokenizer, Path(folder))
            rows, length = next(iter(windows))[0].shape
            # All windows are read here, because the folder is deleted after the block.
            windows = [*windows.take(max(1, TOKENS // (rows * length))).as_numpy_iterator()]
        reader = Served(model).reader_onnx()

        def measure(path: Path, kind: str | None) -> dict:
            return _nats(smaller(reader, kind) if kind else reader, model, windows)

        return measure


WORK = LanguageModelWork(TASK)
