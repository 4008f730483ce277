"""What training a task's model has in common with any other task's."""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import keras
import tensorflow as tf

from kerasrnn import distribution, interruption, runs
from kerasrnn.averaging import AveragedEpochs
from kerasrnn.checkpoints import KEEP, Progress, State
from kerasrnn.errors import InputError
from kerasrnn.not_finite import NotFinite
from kerasrnn.optimizers import SCHEDULES, make_optimizer
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.service import Service
from kerasrnn.tasks.hyperparameters import CommonSettings
from kerasrnn.tasks.rewinding import rewound
from kerasrnn.text import TOKENIZERS, Tokenizer
from kerasrnn.training import (
    BestModel,
    HistoryFile,
    Plateau,
    Samples,
    Speed,
    StopEarly,
    StopOnNaN,
    TokenCrossEntropy,
    cost,
)

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
PLATEAU = 3  # epochs without a better model after which schedule=plateau halves the rate


@dataclass(frozen=True, kw_only=True)
class CommonJob:
    """How every job is run: what does not change what is trained.

    `keep` is how many checkpoints stay; `data_service` where the dispatcher of a tf.data service
    listens, "host:port", whose workers then read the training data.
    """

    overwrite: bool = False
    strategy: str = "auto"
    keep: int = KEEP
    data_service: str | None = None


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def tokenizer_of(level: str, texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer for the texts; `vocabulary` is the most tokens known, 0 for the level's own."""
    kind = TOKENIZERS[level]
    return kind.from_texts(texts, vocabulary) if vocabulary else kind.from_texts(texts)


def optimizer_of(settings, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer that the settings name; `steps` is the length of all training."""
    names = ("learning_rate", "schedule", "clip", "clip_at", "accumulate", "ema")
    options = {name: getattr(settings, name) for name in names}
    decay = settings.weight_decay if settings.optimizer == "adamw" else None
    warmup = int(settings.warmup * steps)
    return make_optimizer(
        settings.optimizer, steps=steps, warmup=warmup, weight_decay=decay, **options
    )


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
class Start:
    """From where a job trains.

    Attributes:
        strategy: on what.
        out: where to write; a worker that is not the chief has a folder of its own, which goes.
        shared: the run folder.
        say: told what happens.
        model: as the checkpoint has it; None at the very beginning.
        progress: where training stands.
        state: what this worker held beside the model.
        keep: how many checkpoints stay.
        service: what reads the training data; None for this process.
    """

    strategy: tf.distribute.Strategy
    out: Path
    shared: Path
    say: Callable[[str], None]
    model: keras.Model | None = None
    progress: Progress = field(default_factory=Progress)
    state: State = field(default_factory=dict)
    keep: int = KEEP
    service: Service | None = None


@contextlib.contextmanager
def started(job, config: dict, say: Callable[[str], None]) -> Iterator[Start]:
    """The start of a job, or where it goes on: its strategy, seeds and checkpoint.

    Args:
        job: with the fields of `CommonJob`, `settings`, `seed` and `out`.
        config: what `config.json` holds.

    Raises:
        InputError: when the run folder, the checkpoint, the strategy or the data service cannot be
            used.
    """
    if job.keep < 1:
        raise InputError("--keep", "1 or more", job.keep, "raise it")
    service = Service.at(job.data_service) if job.data_service else None
    strategy = distribution.strategy(job.strategy)
    keras.utils.set_random_seed(job.seed)
    if job.settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    checkpoint = None if job.overwrite else runs.find(job.out, config, say)
    with tempfile.TemporaryDirectory() as own, _precision(job.settings.precision):
        chief = distribution.is_chief(strategy)
        run = Path(job.out)
        out = run if chief else Path(own, "run")
        start = Start(strategy, out, run, say, keep=job.keep, service=service)
        if checkpoint is not None:
            start.progress = checkpoint.progress
            _check_replicas(job, checkpoint, strategy)
            with strategy.scope():
                start.model = runs.load_model(checkpoint.folder)
            worker = distribution.worker_index(strategy)
            start.state = checkpoint.states[worker]
            here = f"epoch {start.progress.epoch + 1}, batch {start.progress.batch + 1}"
            say(f"going on in {here}")
        yield start


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    """Layers that are made inside compute so."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_replicas(job, checkpoint, strategy) -> None:
    """What a replica holds for itself in the middle of an epoch is of no use to another number."""
    before, now = checkpoint.progress.replicas, strategy.num_replicas_in_sync
    if before != now:
        expected = f"the {before} replicas that {job.out} was trained on"
        raise InputError("--strategy", expected, now, "use as many, or --overwrite")


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


def carry_on(
    model: keras.Model,
    start: Start,
    data: Data,
    settings: CommonSettings,
    *,
    monitor: str,
    sample: Callable[[int], str],
    scored: list[keras.callbacks.Callback] = (),
    carried=None,
    verbose: int = 1,
) -> dict:
    """Train from where `start` stands to the end of all epochs, into its folder.

    Args:
        monitor: the column of `history.csv` that says which model is best.
        sample: epoch -> text to show after it.
        scored: callbacks that add columns.
        carried: the model's training state, if it carries one.
        verbose: as Keras's; a worker that is not the chief says nothing.

    Returns:
        The best row of `history.csv`.

    Raises:
        Interrupted: when the user stopped it.
        NotFinite: when the loss is no longer a number; the weights before that are kept.
        Exception: what reading the data raised.
    """
    progress, run, chief = start.progress, start.out, distribution.is_chief(start.strategy)
    options = {"carried": carried, "pending": start.state, "keep": start.keep}
    options |= {"batches": data.batches, "epochs": settings.epochs}
    checkpoints = interruption.Checkpoints(run, progress, **options)
    best = BestModel(run / runs.MODEL, monitor, progress.rows)
    samples = Samples(run / "samples.txt", sample)
    writers = [HistoryFile(run, progress.rows), *([best, samples] if chief else [])]
    mean = _mean(model, start, data, settings, best, scored)
    callbacks = [
        StopOnNaN(progress.batch),
        Speed(data.tokens_per_batch),
        *_averaged(settings, [*scored, *writers]),
        *_deciding(settings, monitor, progress.rows),
        *mean,
        checkpoints,
    ]
    with interruption.stopping(checkpoints.asked):
        shown = verbose if chief else 0
        parts = (data.at, data.valid, progress, settings.epochs, callbacks)
        try:
            interruption.fit(model, *parts, shown)
        except NotFinite as error:
            raise rewound(start, data, error, options) from error
    rows = [*progress.rows, *(row for callback in mean for row in callback.rows)]
    return min(rows, key=lambda row: cost(row, monitor))


def _mean(model, start: Start, data: Data, settings, best: BestModel, scored) -> list:
    """The callback that tries the mean of the last epochs, where settings ask for it."""
    if not settings.average:
        return []

    def measure():
        valid = distribution.dealt(data.valid, start.strategy)
        found = model.evaluate(valid, return_dict=True, verbose=0)
        row = {f"val_{name}": value for name, value in found.items()}
        for callback in scored:
            row.update(callback.score())
        return {name: round(float(value), 6) for name, value in row.items()}

    folder, count = start.shared / "epochs", settings.average
    return [AveragedEpochs(folder, count, settings.epochs, measure, best.on_epoch_end)]


def _averaged(settings, callbacks: list) -> list:
    """Callbacks that see the moving average of the weights, where there is one."""
    if not settings.ema:
        return callbacks
    swap, follow = keras.callbacks.SwapEMAWeights(), keras.callbacks.LambdaCallback
    before = follow(on_epoch_end=lambda epoch, logs: swap.on_test_begin())
    behind = follow(on_epoch_end=lambda epoch, logs: swap.on_test_end())
    return [swap, before, *callbacks, behind]


def _deciding(settings, monitor: str, rows: list[dict]) -> list:
    """Callbacks that end training or lower the learning rate."""
    found = []
    if settings.schedule == "plateau":
        halved = {"factor": 0.5, "patience": settings.patience or PLATEAU}
        found.append(Plateau(rows, monitor, settings.learning_rate, **halved))
    elif settings.patience:
        found.append(StopEarly(rows, monitor, patience=settings.patience))
    return found


def check_choices(settings, **known: Iterable[str]) -> None:
    """Refuse a setting that is none of those known by its name (InputError)."""
    for name, names in known.items():
        value = getattr(settings, name)
        if value not in names:
            raise InputError(name, f"one of {', '.join(names)}", value, "choose one of them")


def check_counts(settings, *names: str) -> None:
    """Refuse a setting of these names that is below 1 (InputError)."""
    for name in names:
        if getattr(settings, name) < 1:
            raise InputError(name, "1 or more", getattr(settings, name), "raise it")


def check_shares(settings, *names: str) -> None:
    """Refuse a setting of these names that is no share from 0 to below 1 (InputError)."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value < 1:
            raise InputError(name, "a share from 0 to below 1", value, "change it")


def check_common(settings, seed: int) -> None:
    """Refuse what no task can train with (InputError)."""
    check_counts(settings, "batch_size", "epochs", "accumulate")
    check_choices(settings, precision=PRECISIONS, schedule=SCHEDULES)
    check_shares(settings, "ema")
    if not 0 < settings.valid_share < 1:
        raise InputError("valid_share", "a share between 0 and 1", settings.valid_share, "use 0.1")
    if not 0 <= settings.warmup < 1:
        raise InputError("warmup", "0 to below 1", settings.warmup, "change it")
    for name in ("weight_decay", "vocabulary", "patience", "average"):
        if getattr(settings, name) < 0:
            raise InputError(name, "0 or more", getattr(settings, name), "change it")
    if not 0 <= seed < 2**31:
        raise InputError("--seed", "0 to 2147483647", seed, "give one of them")
