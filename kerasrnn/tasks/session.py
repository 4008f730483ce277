"""Where a job trains: its run folder, held alone, its strategy, the checkpoint to go on from."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from kerasrnn import distribution
from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp
from kerasrnn.base.locks import lock_folder
from kerasrnn.pipelines.service import Service
from kerasrnn.tasks import run_data, run_folder
from kerasrnn.tasks.origin import open_origin, origin_config, take_weights
from kerasrnn.training.checkpoints import KEEP, Progress, State
from kerasrnn.training.optimizers import Course, renew_course


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {
        "kerasrnn": version("kerasrnn"),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def config_of(job) -> dict:
    """What `config.json` holds of a job, see `run_folder.find_checkpoint`."""
    files, known = job.files(), job.task.work.digests(job)
    read = run_data.digests({name: paths for name, paths in files.items() if name not in known})
    told = {name: digest for name, digest in known.items() if digest}
    return {
        "task": job.task.name,
        "job": job.told(),
        "data": {"files": run_data.resolved(files), "sha256": read | told},
        "start": origin_config(job.start),
        "settings": dataclasses.asdict(job.settings),
        "versions": versions(),
    }


@dataclass
class TrainingSession:
    """From where a job trains.

    Attributes:
        strategy: on what.
        out: where to write; a worker that is not the chief has a folder of its own, which goes.
        shared: the run folder.
        say: told what happens.
        config: what `config.json` holds.
        stamps: of the data when it was first looked at, by path.
        model: as the checkpoint has it; None at the very beginning.
        origin: of a new run that begins with the weights of another, its model.
        progress: where training stands.
        state: what this worker held beside the model.
        keep_checkpoints: how many checkpoints stay.
        service: what reads the training data; None for this process.
    """

    strategy: tf.distribute.Strategy
    out: Path
    shared: Path
    say: Callable[[str], None]
    config: dict
    stamps: dict[str, Stamp]
    model: keras.Model | None = None
    origin: keras.Model | None = None
    progress: Progress = field(default_factory=Progress)
    state: State = field(default_factory=dict)
    keep_checkpoints: int = KEEP
    service: Service | None = None

    @property
    def known(self) -> keras.Model | None:
        """The model whose tokenizers there are already."""
        return self.model or self.origin


@contextlib.contextmanager
def open_session(job, say: Callable[[str], None]) -> Iterator[TrainingSession]:
    """The start of a job, or where it goes on: its strategy, seeds and checkpoint.

    Args:
        job: a `CommonJob`.

    Raises:
        InputError: when the run folder, the checkpoint, the strategy or the data service cannot be
            used, or another process trains in the run folder.
    """
    if job.keep_checkpoints < 1:
        raise InputError("--keep-checkpoints", "1 or more", job.keep_checkpoints, "raise it")
    service = Service.at(job.data_service) if job.data_service else None
    strategy = distribution.strategy(job.strategy)
    keras.utils.set_random_seed(job.seed)
    if job.settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    chief, run = distribution.is_chief(strategy), Path(job.out)
    with contextlib.ExitStack() as stack:
        if chief:  # the others are of the same training
            stack.enter_context(lock_folder(run, warn=say))
        own = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(_precision(job.settings.precision))
        stamps, config = run_data.stamps(job.files()), config_of(job)
        session = TrainingSession(
            strategy, run if chief else Path(own, "run"), run, say, config, stamps
        )
        session.keep_checkpoints, session.service = job.keep_checkpoints, service
        checkpoint = None if job.overwrite else run_folder.find_checkpoint(run, config, say)
        if checkpoint is not None:
            _go_on(session, job, checkpoint)
        elif job.start:
            session.origin = open_origin(job, config)
        distribution.wait_for_all(strategy)  # the chief writes where they have all read now
        yield session


def _go_on(session: TrainingSession, job, checkpoint) -> None:
    """Let `session` be where the checkpoint stands."""
    session.progress = checkpoint.progress
    _check_replicas(job, checkpoint, session.strategy)
    with session.strategy.scope():
        session.model = run_folder.load_model(checkpoint.folder)
    session.state = checkpoint.states[distribution.worker_index(session.strategy)]
    here = f"epoch {session.progress.epoch + 1}, batch {session.progress.batch + 1}"
    session.say(f"going on in {here}")


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


def model_to_train(session: TrainingSession, job, make: Callable[[], keras.Model]) -> keras.Model:
    """The model to train: that of the checkpoint, or what `make` makes, which may begin with the
    weights of another run."""
    if session.model is not None:
        return session.model
    with session.strategy.scope():
        model = make()
        if session.origin is not None:
            take_weights(model, session.origin, job.start)
            session.say(f"beginning with the weights of {job.start}")
    session.origin = None  # its memory
    return model


def course_of(settings, steps: int) -> Course:
    """The course of the learning rate in a training of so many steps."""
    warmup = int(settings.warmup * steps)
    return Course(settings.learning_rate, settings.schedule, steps, warmup)


def renew(model: keras.Model, settings, batches: int) -> None:
    """Let the learning rate of a checkpoint's model follow the course of all epochs of so many
    batches; when it was written there may have been fewer."""
    renew_course(model.optimizer, course_of(settings, batches * settings.epochs))
