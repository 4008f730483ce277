"""Average the weights of the last epochs; the mean often scores better than each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from kerasrnn.base.files import replacing
from kerasrnn.distribution import is_chief, wait_for_all

SUFFIX = ".weights.h5"


class AveragedEpochs(keras.callbacks.Callback):
    """Keeps the weights of the last epochs and measures their mean at the end of training.

    The method of Junczys-Dowmunt et al. 2016, "The AMU-UEDIN submission to the WMT16 news
    translation task". This callback must come before `Checkpoints`: a training that is killed
    while the mean is measured has no last checkpoint yet, so it measures the mean again.

    Args:
        folder: the folder of the weights; the chief writes it, all workers read it.
        count: the number of epochs to average.
        epochs: the number of epochs in all.
        measure: returns the scores of the current model, as columns of `history.csv`.
        offer: row -> None; writes the row and saves the model if it is the best.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        epochs: int,
        measure: Callable[[], dict],
        offer: Callable[[dict], None],
    ):
        super().__init__()
        self.folder, self.count, self.epochs = folder, count, epochs
        self.measure, self.offer = measure, offer

    def on_epoch_end(self, epoch, logs=None):
        if is_chief(self.model.distribute_strategy):
            self._keep(epoch)
        if epoch + 1 == self.epochs or self.model.stop_training:
            # All workers read the files, so they wait until the chief has written the last one.
            wait_for_all(self.model.distribute_strategy)
            self._measure_mean(epoch)

    def _keep(self, epoch: int) -> None:
        """Save the weights of this epoch and delete those that are too old."""
        self.folder.mkdir(exist_ok=True)
        with replacing(self._file(epoch)) as path:
            self.model.save_weights(path)
        for old in sorted(self.folder.glob(f"[0-9]*{SUFFIX}"))[: -self.count]:
            old.unlink()

    def _file(self, epoch: int) -> Path:
        return self.folder / f"{epoch:06d}{SUFFIX}"

    def _measure_mean(self, epoch: int) -> None:
        """Offer the mean of the last epochs, then put the trained weights back."""
        trained_weights = self.model.get_weights()
        # The names are computed, not listed: a network disk may show other workers an old list of
        # the folder's files.
        files = [self._file(e) for e in range(max(epoch + 1 - self.count, 0), epoch + 1)]
        self.model.set_weights(self._mean(files))
        self.offer({"epoch": epoch + 1, "averaged": len(files), **self.measure()})
        self.model.set_weights(trained_weights)

    def _mean(self, files: list[Path]) -> list[np.ndarray]:
        """Return the mean weights of the files, summed in float64."""
        total = None
        for file in files:
            self.model.load_weights(file)
            weights = [weight.astype(np.float64) for weight in self.model.get_weights()]
            total = (
                weights if total is None else [a + b for a, b in zip(total, weights, strict=True)]
            )
        return [weight / len(files) for weight in total]
