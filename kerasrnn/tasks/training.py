"""What training a task's model has in common with any other task's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from kerasrnn import distribution
from kerasrnn.base.errors import InputError
from kerasrnn.base.files import staging
from kerasrnn.losses.tokens import TokenCrossEntropy
from kerasrnn.pipelines.dataset import Position
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.common import OPTIMIZER, CommonSettings, check_seed
from kerasrnn.tasks.rewinding import diagnose_not_finite
from kerasrnn.tasks.session import (
    TrainingSession,
    course_of,
    model_to_train,
    open_session,
    renew,
)
from kerasrnn.text.tokenizers import RESERVED, TOKENIZERS, Tokenizer
from kerasrnn.training import interruption
from kerasrnn.training.averaging import AveragedEpochs
from kerasrnn.training.best import best_row
from kerasrnn.training.callbacks import (
    BestModel,
    HistoryFile,
    Plateau,
    Samples,
    Speed,
    StopEarly,
    StopOnNaN,
)
from kerasrnn.training.checkpoints import Progress
from kerasrnn.training.not_finite import NotFinite
from kerasrnn.training.optimizers import make_optimizer
from kerasrnn.training.progress import ProgressReport

PLATEAU = 3  # epochs without a better model after which schedule=plateau halves the rate


def tokenizer_of(level: str, texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer for the texts; `vocabulary` is the most tokens known, 0 for the level's own."""
    if level not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        raise InputError("--level", f"one of {known}", level, "choose one of them")
    kind = TOKENIZERS[level]
    return kind.from_texts(texts, vocabulary) if vocabulary else kind.from_texts(texts)


def ids_said(tokenizers, asked: int) -> str:
    """How many ids the tokenizers have, with a word where a vocabulary is smaller than asked for.

    Args:
        tokenizers: one or two, what has `size` and `level`.
        asked: the setting `vocabulary`, 0 for none. Only of subwords it counts the reserved ids.

    >>> from types import SimpleNamespace as Has
    >>> ids_said([Has(size=54, level="word"), Has(size=46, level="word")], 50)
    '54 and 46 ids; the vocabulary is smaller than the 50 asked for: the text has 42'
    """
    said = f"{' and '.join(str(t.size) for t in tokenizers)} ids"
    known = [t.size - (0 if t.level == "subword" else len(RESERVED)) for t in tokenizers]
    if short := [str(count) for count in known if count < asked]:
        has = f"the text has {' and '.join(short)}"
        said += f"; the vocabulary is smaller than the {asked} asked for: {has}"
    return said


def optimizer_of(settings, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that the settings name; `steps` is the length of all training."""
    options = {name: getattr(settings, name) for name in OPTIMIZER}
    if settings.optimizer == "adamw":
        options["weight_decay"] = settings.weight_decay
    return make_optimizer(settings.optimizer, course_of(settings, steps), **options)


def compiled(make: Callable[[], keras.Model], settings, steps: int) -> keras.Model:
    """The model that `make` makes, ready to learn sentences; `steps` is the length of all training.

    Raises:
        InputError: when the sizes of its layers do not fit together.
    """
    optimizer, loss = optimizer_of(settings, steps), TokenCrossEntropy(settings.label_smoothing)
    try:
        model = make()
    except ValueError as error:
        received = str(error).rstrip(".")
        raise InputError("--set", "sizes that fit together", received, "change them") from error
    model.compile(optimizer, loss)
    return model


@dataclass
class Data:
    """What a model is trained and validated on.

    Attributes:
        at: position and shard -> training dataset.
        valid: shard -> validation dataset.
        batches: in an epoch.
        tokens_per_batch: target tokens, on average.
    """

    at: Callable[[Position, tuple[int, int]], tf.data.Dataset]
    valid: Callable[[tuple[int, int]], tf.data.Dataset]
    batches: int
    tokens_per_batch: float


@dataclass
class Monitoring:
    """What is measured and shown while a model trains.

    Attributes:
        scores: columns of `history.csv` that say which model is best, see `best_row`.
        sample: epoch -> text to show after it.
        scored: callbacks that add columns.
    """

    scores: Sequence[str]
    sample: Callable[[int], str]
    scored: Sequence[keras.callbacks.Callback] = ()


def train(job, say: Callable[[str], None], verbose: int = 1) -> dict:
    """Train, or go on with, a job's run.

    Args:
        job: a `CommonJob` of any task.
        say: called with a message.
        verbose: as in `run_training`.

    Returns:
        The row of `history.csv` of the best model.

    Raises:
        InputError: when the data, a setting or the run folder cannot be used.
        Interrupted: when the user stopped it; the same job goes on.
    """
    work = job.task.work
    job.settings.check()
    check_seed(job.seed)
    work.check(job)
    with open_session(job, say) as session:
        # Everything that can be refused is, before the run folder is touched.
        with staging(session.out) as folder:
            examples = work.read(job, session, folder)
            steps = examples.batches * job.settings.epochs
            model = model_to_train(session, job, lambda: examples.make(steps))
            check_served(job.task, model)
            run_data.check_data(session.stamps)
            run = run_folder.open_run(session.out, session.config, job.overwrite)
            say(examples.said)
            examples.place(run, model)
        return run_training(
            model,
            session,
            examples.data(),
            job.settings,
            examples.monitoring(model),
            carried=examples.carried(model),
            verbose=verbose,
        )


def check_served(task, model: keras.Model) -> None:
    """Refuse a model that is served otherwise than its task says, before it is trained.

    Args:
        task: a `kerasrnn.tasks.task.Task`.

    Raises:
        InputError: about what differs.
    """
    name = type(model).__name__
    if not hasattr(model, "served"):
        raise InputError("model", "a model with a method `served`", name, "add it")
    if ">" not in keras.saving.get_registered_name(type(model)):
        expected = "a class that is registered with keras.saving.register_keras_serializable"
        raise InputError("model", expected, name, "register it: Keras loads no other")
    served = model.served()
    if served.task != task.name:
        raise InputError(f"task of {name}.served()", task.name, served.task or '""', "correct it")
    for which in ("takes", "gives"):
        known = {place.name: type(place.kind) for place in getattr(served, which)}
        for place in getattr(task, which):
            if known.get(place.name) is not type(place.kind):
                kind = type(place.kind).__name__
                found = ", ".join(f"{n} ({k.__name__})" for n, k in known.items())
                expected = f"{place.name} ({kind}), as {task.name} declares it"
                raise InputError(f"{which} of {name}.served()", expected, found, "make them agree")


def run_training(
    model: keras.Model,
    session: TrainingSession,
    data: Data,
    settings: CommonSettings,
    monitoring: Monitoring,
    *,
    carried=None,
    verbose: int = 1,
) -> dict:
    """Train from where `session` stands to the end of all epochs, into its folder.

    Args:
        carried: the model's training state, if it carries one.
        verbose: how far training is said: 0 not at all, 1 on one line of a terminal, 2 in lines;
            by the chief.

    Returns:
        The best row of `history.csv`.

    Raises:
        Interrupted: when the user stopped it.
        NotFinite: when the loss is no longer a number; the weights before that are kept.
        Exception: what reading the data raised.
    """
    progress, scores, scored = session.progress, monitoring.scores, monitoring.scored
    if session.model is not None:
        renew(model, settings, data.batches)
    options = {"carried": carried, "pending": session.state, "keep": session.keep_checkpoints}
    options |= {"batches": data.batches, "epochs": settings.epochs}
    checkpoints = interruption.Checkpoints(session.out, progress, **options)
    report = _report(progress, data, settings, verbose)
    history, best, writers = _writers(session, scores, report, monitoring.sample)
    callbacks = [
        StopOnNaN(progress.batch),
        Speed(data.tokens_per_batch),
        *_averaged(settings, [*scored, *writers]),
        *_deciding(settings, scores, progress.rows),
        *_mean(model, session, data, settings, history, best, scored),
        checkpoints,
    ]
    with interruption.watch_signals(checkpoints.asked, session.say), _cleared(report):
        try:
            interruption.fit(model, data.at, data.valid, progress, settings.epochs, callbacks)
        except NotFinite as error:
            raise diagnose_not_finite(session, data, error, settings, options) from error
    return best_row(progress.rows, scores)


@contextlib.contextmanager
def _cleared(report: list) -> Iterator[None]:
    """What is said after the block, as that training was stopped, begins a line of its own."""
    try:
        yield
    finally:
        for one in report:
            one.clear()


def _writers(session: TrainingSession, scores: Sequence[str], report: list, sample):
    """(history, best model, all callbacks that write or say what an epoch came to)."""
    run, rows = session.out, session.progress.rows
    history, best = HistoryFile(run, rows, scores), BestModel(run / run_folder.MODEL, rows, scores)
    if not distribution.is_chief(session.strategy):
        return history, best, [history]
    return history, best, [history, *report, best, Samples(run / "samples.txt", sample)]


def _report(progress: Progress, data: Data, settings, verbose: int) -> list:
    """The callback that says how far training is, where it is asked for."""
    if not verbose:
        return []
    options = {"batches": data.batches, "epochs": settings.epochs, "first": progress.batch}
    options |= {"tokens_per_batch": data.tokens_per_batch, "in_place": verbose == 1}
    return [ProgressReport(progress.rows, **options)]


def _mean(model, session: TrainingSession, data: Data, settings, history, best, scored) -> list:
    """The callback that tries the mean of the last epochs, where settings ask for it."""
    if not settings.average_last:
        return []

    def measure():
        valid = distribution.distribute(data.valid, session.strategy)
        found = model.evaluate(valid, return_dict=True, verbose=0)
        row = {f"val_{name}": value for name, value in found.items()}
        for callback in scored:
            row.update(callback.score())
        return {name: round(float(value), 6) for name, value in row.items()}

    def offer(row):
        history.add_mean(row)
        if distribution.is_chief(session.strategy):
            best.on_epoch_end(row["epoch"] - 1)

    folder, count = session.shared / "epochs", settings.average_last
    return [AveragedEpochs(folder, count, settings.epochs, measure, offer)]


def _averaged(settings, callbacks: list) -> list:
    """Callbacks that see the moving average of the weights, where there is one."""
    if not settings.ema:
        return callbacks
    swap, follow = keras.callbacks.SwapEMAWeights(), keras.callbacks.LambdaCallback
    before = follow(on_epoch_end=lambda epoch, logs: swap.on_test_begin())
    behind = follow(on_epoch_end=lambda epoch, logs: swap.on_test_end())
    return [swap, before, *callbacks, behind]


def _deciding(settings, scores: Sequence[str], rows: list[dict]) -> list:
    """Callbacks that end training or lower the learning rate."""
    found = []
    if settings.schedule == "plateau":
        halved = {"factor": 0.5, "patience": settings.patience or PLATEAU}
        found.append(Plateau(rows, scores, settings.learning_rate, **halved))
    elif settings.patience:
        found.append(StopEarly(rows, scores, patience=settings.patience))
    return found
