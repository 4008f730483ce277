"""Go back to the step before a NaN loss, save its weights and find the cause."""

from __future__ import annotations

import warnings

from kerasrnn import distribution
from kerasrnn.pipelines.dataset import Position
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.session import renew
from kerasrnn.training.checkpoints import newest_checkpoint
from kerasrnn.training.interruption import Checkpoints, fit
from kerasrnn.training.not_finite import NotFinite, first_not_finite


class _PositionReached(Exception):
    """Leaves `fit` before the batch that failed."""


class _TrainTo(Checkpoints):
    """Restores the state of a checkpoint and stops training before one batch.

    Args:
        at: (epoch, batch) of that batch, counted from 0.
        args, options: of `Checkpoints`.
    """

    def __init__(self, *args, at: tuple[int, int], **options):
        super().__init__(*args, **options)
        self.at = at

    def on_train_batch_begin(self, batch, logs=None):
        if (self.progress.epoch, self.progress.batch) == self.at:
            raise _PositionReached

    def _save(self) -> None:
        """Write nothing: these steps were taken before."""

    def save_weights(self) -> None:
        """Write the checkpoint of the current position."""
        super()._save()


def diagnose_not_finite(session, data, error: NotFinite, settings, options: dict) -> NotFinite:
    """Train again from the last checkpoint to the step that failed, and find the cause there.

    The weights from before that step become the newest checkpoint.

    Args:
        session, data: as in `run_training`.
        error: the error that the step raised.
        settings: of the job.
        options: of the `Checkpoints` of the training.

    Returns:
        The error to raise, which names the first layer or gradient that is not finite.
    """
    session.say(f"{error}; looking for where it began")
    checkpoint = newest_checkpoint(session.shared)
    # Before the first step the optimizer is not built yet, so that checkpoint holds no variables
    # of it. Keras warns about this when it loads the checkpoint.
    with warnings.catch_warnings(), session.strategy.scope():
        if (checkpoint.progress.epoch, checkpoint.progress.batch) == (0, 0):
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        model = run_folder.load_model(checkpoint.folder)
    renew(model, settings, data.batches)
    state = checkpoint.states[distribution.worker_index(session.strategy)]
    carried = model.training_state if options["carried"] is not None else None
    at = (error.epoch - 1, error.batch - 1)  # the error counts from 1
    options = {**options, "pending": state, "carried": carried}
    train_to = _TrainTo(session.shared, checkpoint.progress, at=at, **options)
    try:
        fit(model, data.at, data.valid, checkpoint.progress, options["epochs"], [train_to])
    except _PositionReached:
        train_to.save_weights()
    x, y = next(iter(data.at(Position(*at), distribution.shards_here(session.strategy)[0])))
    where = first_not_finite(model, x, y)
    return NotFinite(error.loss, error.epoch, error.batch, f", first in {where}" if where else "")
