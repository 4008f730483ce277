"""The run folder: what training leaves, and how the same command goes on.

`model.keras` best model, `config.json` everything that made it, `history.csv`, `samples.txt`,
`learning_curve.png`, `checkpoint/` where training stands.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from kerasrnn.carry import CarriedState
from kerasrnn.errors import InputError
from kerasrnn.files import recover, replacing
from kerasrnn.pipelines.text import Position

CONFIG, MODEL, CHECKPOINT, STATE = "config.json", "model.keras", "checkpoint", "state.npz"
CHECKPOINT_SECONDS = 60.0


class Interrupted(Exception):
    """Training stopped because the user asked; the checkpoint is written.

    `exit_code` is 130 after Ctrl-C, as shells have it, and 0 after SIGTERM (preemption).
    """

    def __init__(self, run: Path, progress: Progress, number: int):
        done = f"{progress.epoch} epochs and {progress.batch} batches"
        super().__init__(f"stopped after {done} in {run}; the same command goes on")
        self.exit_code = 130 if number == signal.SIGINT else 0


def find(path: str | Path, config: dict) -> Path | None:
    """The run folder that the same command began; None when there is none.

    Args:
        path: the folder.
        config: what this command would train; must be plain JSON.

    Raises:
        InputError: when the folder holds something else, a run of another command, or a
            finished run.
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    recover(path / CHECKPOINT)
    _same_command(path, read_config(path), config)
    progress = read_progress(path)
    if progress is not None and progress.finished:
        raise InputError(
            "--out",
            "a new folder or an unfinished run",
            f"{path}, which is finished",
            "use --overwrite",
        )
    return path


def open_run(path: str | Path, config: dict, overwrite: bool) -> Path:
    """Make the run folder, or go into it when it stands.

    Args:
        path, config: as in `find`.
        overwrite: remove the run that stands there; nothing but a run is ever removed.

    Raises:
        InputError: when the folder to overwrite is no run.
    """
    path = Path(path)
    if overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not (path / CONFIG).exists():
            raise InputError("--overwrite", "a run folder", path, "remove it yourself")
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG).exists():
        with replacing(path / CONFIG) as file:
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return path


def read_config(path: str | Path) -> dict:
    """`config.json` of a run folder (InputError when it is none or is damaged)."""
    try:
        config = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
            raise ValueError("no settings in it")
        return config
    except (OSError, ValueError) as error:
        raise InputError(
            "RUN",
            "a run folder with a readable config.json",
            f"{path} ({error})",
            "give another folder",
        ) from error


def _same_command(path: Path, before: dict, config: dict) -> None:
    for name, value in config.items():
        if name != "versions" and before.get(name) != value:
            changed = _changed(before.get(name), value)
            changed = changed if isinstance(value, dict) else f"{name} {changed}"
            raise InputError(
                "--out",
                f"the command that began {path}",
                changed,
                "use another --out, or --overwrite",
            )


def _changed(before, now) -> str:
    """The first setting that differs, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(n for n in now if before.get(n) != now[n])
        if name == "sha256":
            return "a text that has changed since"
        return f"{name}={now[name]!r} where it was {before.get(name)!r}"
    return f"{now!r} where it was {before!r}"


def load_model(path: str | Path) -> keras.Model:
    """The best model of a run (InputError when it is missing or damaged)."""
    import kerasrnn.models  # noqa: F401  (Keras finds a class only where it has been imported)

    file = Path(path) / MODEL
    if not file.exists():
        wanted = "a run folder with a trained model"
        raise InputError("RUN", wanted, f"{path} without {MODEL}", "train it first")
    try:
        if not zipfile.is_zipfile(file):
            raise ValueError("the file is damaged")
        return keras.saving.load_model(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged("a whole model", file, error) from error


def _damaged(expected: str, file: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return InputError("RUN", expected, f"{file} ({reason})", "use --overwrite to begin anew")


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch, batch: the next batch to train on.
        rows: `history.csv` so far.
        finished: every epoch is done.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[dict] = field(default_factory=list)
    finished: bool = False


def read_progress(path: Path) -> Progress | None:
    """The checkpoint's progress; None when there is no checkpoint."""
    file = path / CHECKPOINT / "progress.json"
    if not file.exists():
        return None
    try:
        return Progress(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged("a whole checkpoint", file, error) from error


@dataclass
class Asked:
    """The signal that asked to stop, 0 before."""

    signal: int = 0


class Checkpoints(keras.callbacks.Callback):
    """Writes `checkpoint/` every minute, after each epoch and when asked to stop.

    Model, optimizer, seeds, carried state, running metrics and position are written, so that
    training goes on as if it had never stopped.

    Args:
        run: the run folder.
        progress: where training stands; moved along.
        batches: in an epoch.
        epochs: in all.
        carried: the model's training state, if it carries one.
    """

    def __init__(
        self, run: Path, progress: Progress, batches: int, epochs: int, carried: CarriedState | None
    ):
        super().__init__()
        self.run, self.progress, self.batches, self.epochs = run, progress, batches, epochs
        self.carried = carried
        self.pending = read_state(run)
        self.asked = Asked()
        self.written = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        for variable, value in zip(self._seeds(), self.pending.get("seed", []), strict=False):
            variable.assign(value)
        if self.carried is not None and "carried" in self.pending:
            self.carried.assign(self.pending["carried"])

    def on_train_batch_end(self, batch, logs=None):
        # Keras makes the metrics in the first step; they are sums, so what was is added then.
        for variable, value in zip(
            self.model.metrics_variables, self.pending.get("metric", []), strict=False
        ):
            variable.assign_add(value)
        self.pending = {}
        self.progress.batch += 1
        if self.progress.batch == self.batches:
            return  # the end of the epoch follows, with its validation
        if self.asked.signal:
            self._save()
            raise Interrupted(self.run, self.progress, self.asked.signal)
        if time.monotonic() - self.written > CHECKPOINT_SECONDS:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        self.progress.epoch, self.progress.batch = epoch + 1, 0
        self.progress.finished = self.progress.epoch == self.epochs
        self._save()
        if self.asked.signal and not self.progress.finished:
            raise Interrupted(self.run, self.progress, self.asked.signal)

    def _seeds(self) -> list:
        """What the model's random numbers come from; Keras does not save it."""
        weights = {id(weight) for weight in self.model.weights}
        return [v for v in self.model.variables if id(v) not in weights]

    def _save(self) -> None:
        state = {"seed": [v.numpy() for v in self._seeds()]}
        if self.progress.batch:  # else an epoch begins, and with it these
            state["metric"] = [v.numpy() for v in self.model.metrics_variables]
            state["carried"] = [] if self.carried is None else self.carried.numpy()
        arrays = {f"{n}/{i}": a for n, group in state.items() for i, a in enumerate(group)}
        with replacing(self.run / CHECKPOINT) as folder:
            folder.mkdir(exist_ok=True)
            self.model.save(folder / MODEL)
            np.savez(folder / STATE, **arrays)
            (folder / "progress.json").write_text(json.dumps(self.progress.__dict__))
        self.written = time.monotonic()


def read_state(run: Path) -> dict[str, list[np.ndarray]]:
    """What a checkpoint holds beside the model: seeds, running metrics and carried state."""
    if not (run / CHECKPOINT / STATE).exists():
        return {}
    state: dict[str, list] = {}
    try:
        with np.load(run / CHECKPOINT / STATE) as arrays:
            for name in arrays.files:  # in the order in which they were written
                state.setdefault(name.split("/")[0], []).append(arrays[name])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged("a whole checkpoint", run / CHECKPOINT / STATE, error) from error
    return state


@contextlib.contextmanager
def stopping(asked: Asked) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask to stop; a second one stops at once."""

    def ask(number, frame):
        if asked.signal:
            raise KeyboardInterrupt
        asked.signal = number
        print("\nstopping after this batch; once more to stop at once", flush=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_checkpoint(run: Path) -> tuple[keras.Model | None, Progress]:
    """The model and progress of the run's checkpoint; None and the beginning without one."""
    progress = read_progress(run)
    if progress is None:
        return None, Progress()
    return load_model(run / CHECKPOINT), progress


def fit(
    model, dataset_at, valid, progress: Progress, epochs: int, callbacks: list, verbose: int
) -> None:
    """`model.fit` from where `progress` stands to the end of `epochs`.

    Args:
        dataset_at: position -> training dataset; an epoch that was interrupted has a dataset
            of its own, which begins at its next batch.
        valid: validation dataset.
        verbose: as Keras's.
    """
    follow = keras.callbacks.LambdaCallback
    while progress.epoch < epochs:
        position = Position(progress.epoch, progress.batch)
        if position.batch:  # the rest of one epoch, then the others
            own = follow(on_epoch_end=lambda *_: setattr(model, "stop_training", True))
        else:
            own = follow(on_epoch_begin=lambda epoch, _, at=position: setattr(at, "epoch", epoch))
        model.fit(
            dataset_at(position),
            validation_data=valid,
            initial_epoch=position.epoch,
            epochs=epochs,
            callbacks=[*callbacks, own],
            shuffle=False,
            verbose=verbose,
        )
