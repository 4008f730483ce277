"""After a loss that is no number: back to the step before, whose weights are kept, and why."""

from __future__ import annotations

import warnings

from kerasrnn import distribution
from kerasrnn.pipelines.dataset import Position
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.session import renew
from kerasrnn.training.checkpoints import newest
from kerasrnn.training.interruption import Checkpoints, fit
from kerasrnn.training.not_finite import NotFinite, first_not_finite


class _Reached(Exception):
    """Training stands where it is wanted."""


class _Rewound(Checkpoints):
    """Trains on, writing nothing, up to one batch."""

    def __init__(self, *args, at: tuple[int, int], **options):
        super().__init__(*args, **options)
        self.at = at

    def on_train_batch_begin(self, batch, logs=None):
        if (self.progress.epoch, self.progress.batch) == self.at:
            raise _Reached

    def _save(self) -> None:
        """Nothing is new."""

    def keep_weights(self) -> None:
        super()._save()


def diagnose_not_finite(session, data, error: NotFinite, settings, options: dict) -> NotFinite:
    """Train again from the last checkpoint to the step that failed, and look at it.

    The weights from before that step become the newest checkpoint.

    Args:
        session, data: as in `run_training`.
        error: what was raised.
        settings: of the job.
        options: of the `Checkpoints`.

    Returns:
        What to raise: the error that says where it began.
    """
    session.say(f"{error}; looking for where it began")
    checkpoint = newest(session.shared)
    # The checkpoint from before the first step has an optimizer that is not built yet: Keras warns
    # that it has nothing to load.
    with warnings.catch_warnings(), session.strategy.scope():
        if (checkpoint.progress.epoch, checkpoint.progress.batch) == (0, 0):
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        model = run_folder.load_model(checkpoint.folder)
    renew(model, settings, data.batches)
    state = checkpoint.states[distribution.worker_index(session.strategy)]
    carried = model.training_state if options["carried"] is not None else None
    at = (error.epoch - 1, error.batch - 1)
    again = {**options, "pending": state, "carried": carried}
    last = _Rewound(session.shared, checkpoint.progress, at=at, **again)
    try:
        fit(model, data.at, data.valid, checkpoint.progress, options["epochs"], [last])
    except _Reached:
        last.keep_weights()
    x, y = next(iter(data.at(Position(*at), distribution.shards_here(session.strategy)[0])))
    where = first_not_finite(model, x, y)
    return NotFinite(error.loss, error.epoch, error.batch, f", first in {where}" if where else "")
