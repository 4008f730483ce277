"""The mean of the weights of the last epochs, which often does better than each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from kerasrnn.base.files import replacing
from kerasrnn.distribution.strategies import is_chief, wait_for_all

SUFFIX = ".weights.h5"


class AveragedEpochs(keras.callbacks.Callback):
    """Keeps the weights of the last epochs and tries their mean at the end of training.

    As in Junczys-Dowmunt et al. 2016, "The AMU-UEDIN submission to the WMT16 news translation
    task": the mean of the weights of the last checkpoints. It stands before `Checkpoints`, so that
    training that is killed tries it again.

    Args:
        folder: where they are kept; the chief writes, all workers read.
        count: how many epochs.
        epochs: in all.
        measure: figures of the model as it stands, as a row of `history.csv` has them.
        offer: row -> None; writes it down and keeps the model if it is the best.
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
            wait_for_all(self.model.distribute_strategy)  # the chief has written this epoch
            self._try(epoch)

    def _keep(self, epoch: int) -> None:
        self.folder.mkdir(exist_ok=True)
        with replacing(self._file(epoch)) as path:
            self.model.save_weights(path)
        for old in sorted(self.folder.glob(f"[0-9]*{SUFFIX}"))[: -self.count]:
            old.unlink()

    def _file(self, epoch: int) -> Path:
        return self.folder / f"{epoch:06d}{SUFFIX}"

    def _try(self, epoch: int) -> None:
        trained = self.model.get_weights()
        # By name: a network disk may show other workers an old list of what is in a folder.
        files = [self._file(e) for e in range(max(epoch + 1 - self.count, 0), epoch + 1)]
        self.model.set_weights(self._mean(files))
        self.offer({"epoch": epoch + 1, "averaged": len(files), **self.measure()})
        self.model.set_weights(trained)

    def _mean(self, files: list[Path]) -> list[np.ndarray]:
        total = None
        for file in files:
            self.model.load_weights(file)
            weights = [weight.astype(np.float64) for weight in self.model.get_weights()]
            total = (
                weights if total is None else [a + b for a, b in zip(total, weights, strict=True)]
            )
        return [weight / len(files) for weight in total]
