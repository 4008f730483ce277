"""Disks that fill up, folders and files that cannot be written, data that changes: one line, no
damage, and the same command goes on."""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import AGAIN, remove, replacing, stamp
from kerasrnn.cli import command as cli
from kerasrnn.pipelines import captions
from kerasrnn.pipelines.batching import batches
from kerasrnn.pipelines.captions import Examples
from kerasrnn.pipelines.dataset import original_errors
from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.pipelines.store import Store
from kerasrnn.pipelines.text import IdStream, contiguous
from kerasrnn.tasks import run_folder
from kerasrnn.tasks.lm import work as lm
from kerasrnn.tasks.training import train
from kerasrnn.training import interruption
from kerasrnn.training.callbacks import Samples
from kerasrnn.training.checkpoints import newest_checkpoint
from tests.conftest import lacking
from tests.id_files import file_of
from tests.test_kills import assert_same_weights, rows
from tests.test_tasks import TEXT, job, say
from tests.train_under import TASKS
from tests.workers import environment


def truncate(path):
    os.truncate(path, 10)


def rewrite(path):
    """The same size, other content."""
    data = path.read_bytes()
    path.write_bytes(bytes(len(data)))
    os.utime(path, ns=(0, 0))


HARM = {"truncated": truncate, "changed": rewrite, "gone": os.remove}


@contextlib.contextmanager
def only_readable(path):
    """Nobody can write to a file or into a folder, not even root."""
    mode = path.stat().st_mode
    path.chmod(mode & 0o555)
    if os.geteuid() == 0 and shutil.which("chattr") is None:
        lacking("root, and no chattr (e2fsprogs)")
    if os.geteuid() == 0 and subprocess.run(["chattr", "+i", str(path)]).returncode:
        pytest.skip("root, and a file system without chattr")
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", str(path)], check=True)
        path.chmod(mode)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@contextlib.contextmanager
def harmed(monkeypatch, harm, *, epoch: int = 1, batch: int = 2):
    """Something is done to the files in the middle of training."""

    class Harm(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            if (self.epoch, number) == (epoch, batch):
                harm()

        def on_epoch_begin(self, number, logs=None):
            self.epoch = number

    fit = interruption.fit

    def harming_fit(model, at, valid, progress, epochs, callbacks):
        fit(model, at, valid, progress, epochs, [*callbacks, Harm()])

    with monkeypatch.context() as patch:
        patch.setattr(interruption, "fit", harming_fit)
        yield


def test_ids_that_change_in_training_from_a_text_that_can_only_be_read(text, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with only_readable(text):
        with harmed(monkeypatch, lambda: truncate(run / "ids.bin")), pytest.raises(InputError) as e:
            train(job(text, run), say, verbose=0)
        assert str(e.value) == (
            f"ids: expected a file that stays as it was written, got {run / 'ids.bin'} (changed "
            f"since); {AGAIN}"
        )
    assert newest_checkpoint(run).progress.epoch == 1


@pytest.mark.parametrize("name", HARM)
def test_files_that_readers_find_changed(tmp_path, name):
    path, picture = tmp_path / "ids", tmp_path / "a.png"
    lengths = np.array([9, 9]), np.array([1, 1])
    keras.utils.save_img(picture, np.random.default_rng(0).uniform(size=(4, 4, 3)))
    store = Store(tmp_path, "red", lambda pixels: pixels[..., 0])
    store.fill([picture])
    [made] = (tmp_path / "red").iterdir()
    ids = file_of(path, range(4, 24), "uint8")
    ids = dataclasses.replace(ids, stamp=stamp(path))
    examples = Examples([picture], [np.array([4, 5])])
    readers = {
        "ids": (path, contiguous(IdStream(ids, 0, 20), 1, 4)),
        "pairs": (path, batches(Pairs(ids, *lengths), batch_size=1)),
        "image": (made, captions.batches(examples, store, batch_size=1)),
    }
    for _, dataset in readers.values():
        assert list(dataset)
    HARM[name](path)
    HARM[name](made)
    reason = "No such file or directory" if name == "gone" else "changed since"
    for argument, (file, dataset) in readers.items():
        with pytest.raises(InputError) as error, original_errors():
            list(dataset)
        assert str(error.value) == (
            f"{argument}: expected a file that stays as it was written, got {file} ({reason}); "
            f"{f'remove {made.parent} and fill again' if argument == 'image' else AGAIN}"
        )


def test_a_text_that_changes_while_it_is_read(text, tmp_path, monkeypatch):
    encode = lm.encode

    def grown(*arguments, **options):
        text.write_text(TEXT + "more")
        return encode(*arguments, **options)

    monkeypatch.setattr(lm, "encode", grown)
    with pytest.raises(InputError) as error:
        train(job(text, tmp_path / "run"), say, verbose=0)
    assert str(error.value) == (
        f"data: expected a file that stays as it is while it is read, got {text} (changed since); "
        "give the same command again"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["run", "parent"])
def test_a_folder_that_cannot_be_written(text, tmp_path, where):
    run = tmp_path / "place" / "run"
    run.mkdir(parents=True)
    folder = run if where == "run" else run.parent
    wanted = "a folder that can be written" if where == "run" else "a place that can be written"
    with only_readable(folder), pytest.raises(InputError, match=rf"^--out: expected {wanted}, got"):
        train(job(text, run), say, verbose=0)
    assert not any(run.iterdir())


def test_a_full_disk_says_where_and_what_to_do(tmp_path, monkeypatch, capsys):
    place = tmp_path / "model.keras"
    errors = [OSError(28, "No space left on device"), OSError(f"{place}: No space left on device")]

    def full(args):
        with replacing(place):
            raise errors.pop()

    monkeypatch.setitem(cli.COMMANDS, "demo", full)
    while errors:
        assert cli.main(["demo"]) == cli.FAILED
        assert capsys.readouterr().err == (
            f"kerasrnn: {place}: No space left on device; make room and give the same command "
            "again\n"
        )


def test_a_run_killed_before_it_said_what_it_is_begins_anew(tmp_path):
    run = tmp_path / "run"
    for overwrite in (False, True):
        run.mkdir(exist_ok=True)
        (run / "config.json").unlink(missing_ok=True)
        (run / ".partial.config.json").write_text("{")
        assert overwrite or run_folder.find_checkpoint(run, {"task": "lm"}) is None
        run_folder.open_run(run, {"task": "lm"}, overwrite)
        assert [path.name for path in run.iterdir()] == ["config.json"]


def test_what_is_overwritten_is_known_as_a_run_to_the_last(tmp_path, monkeypatch):
    run = run_folder.open_run(tmp_path / "run", {"settings": {}}, False)
    (run / "checkpoint").mkdir()
    (run / "samples.txt").write_text("one")

    def killed(path):
        remove(path)
        raise KeyboardInterrupt

    for left in (2, 1):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run_folder, "remove", killed)
            run_folder.open_run(run, {"settings": {"units": 2}}, True)
        assert run_folder.read_config(run) and len(list(run.iterdir())) == left
    run_folder.open_run(run, {"settings": {"units": 2}}, True)
    assert [path.name for path in run.iterdir()] == ["config.json"]
    assert run_folder.read_config(run)["settings"] == {"units": 2}


def test_samples_of_an_epoch_that_is_trained_again_stand_once(tmp_path, capsys):
    path = tmp_path / "samples.txt"
    for number, text in ((0, "a"), (1, "b"), (2, "c"), (1, "d")):
        Samples(path, lambda epoch, text=text: text).on_epoch_end(number)
    assert path.read_text() == "--- after epoch 1 ---\na\n--- after epoch 2 ---\nd\n"
    Samples(path, lambda epoch: "e").on_epoch_end(0)
    assert path.read_text() == "--- after epoch 1 ---\ne\n"


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_what_is_trained_on_changes(tmp_path, monkeypatch, task):
    a_job = TASKS[task](tmp_path, str(tmp_path / "run"), lambda s: s)
    run, whole = tmp_path / "run", tmp_path / "whole"

    def harm():
        for file in [*run.glob("*ids*"), *run.rglob("*.npy")]:
            rewrite(file)

    with harmed(monkeypatch, harm, batch=0), pytest.raises(InputError, match="changed since"):
        train(a_job, say, verbose=0)
    for file in run.rglob("*.npy"):  # what was made of an image stays as long as the image does
        file.unlink()
    train(a_job, say, verbose=0)
    train(dataclasses.replace(a_job, out=str(whole)), say, verbose=0)
    assert_same_weights(*(newest_checkpoint(r).folder / "model.keras" for r in (run, whole)))
    assert rows(run) == rows(whole)


@contextlib.contextmanager
def small_disk(folder, size: str):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount).returncode:
        pytest.skip("a small disk needs root and tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# On a slow machine a minute passes within an epoch. A checkpoint more would take room on the disk.
UNTIMED = """
import sys
from kerasrnn.cli import command as cli
from kerasrnn.training import interruption
interruption.SECONDS = float("inf")
sys.exit(cli.main(sys.argv[1:]))
"""


def commanded(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-c", UNTIMED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment())
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.returncode, done.stderr.rstrip().splitlines()[-1]


def leave(disk, room: int) -> None:
    """Fill a disk but for so many bytes."""
    (disk / "filler").write_bytes(b"")
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(max(0, free - room)))


SETTINGS = ("--set", "units=32", "layers=1", "embedding=8", "batch_size=4", "window=20")


@pytest.mark.slow
def test_a_disk_that_fills_up(text, tmp_path):
    """Room for half a model more each time: what stands is whole, and the command ends as ever."""
    disk, whole = tmp_path / "disk", tmp_path / "whole"
    train = ("train", "lm", "--text", text, *SETTINGS, "--epochs", 3, "--out")
    assert commanded(*train, whole)[0] == 0
    half = (whole / "model.keras").stat().st_size // 2
    with small_disk(disk, "4m"):
        run, failed, code = disk / "run", [], 1
        for room in (2048, 4096, 6144, 8192, *range(half, 12 * half, half)):
            leave(disk, room)
            code, line = commanded(*train, run)
            (disk / "filler").unlink()
            if not code:
                break
            assert code in (1, 2) and "No space left on device" in line, (room, line)
            assert line.startswith("kerasrnn: ")
            failed.append(line.split(": ")[1].removeprefix(f"{run}/"))
            assert not list(disk.rglob(".partial.*")) and not list(disk.glob(".staging.*"))
        assert code == 0, failed
        # First there is no room for the lock, then none for the ids.
        assert failed[0] == "--out" and any(name.endswith("/ids.bin") for name in failed), failed
        assert {"model.keras", "checkpoint/000001-000000000"} < set(failed), failed
        assert_same_weights(*(newest_checkpoint(r).folder / "model.keras" for r in (run, whole)))
        assert_same_weights(run / "model.keras", whole / "model.keras")
        assert rows(run) == rows(whole)
        for kind in ("onnx", "saved_model"):
            leave(disk, 20 * 1024)
            code, line = commanded("export", run, "--format", kind, "--out", disk / "out")
            assert code == 1 and "No space left on device" in line, line
            assert sorted(p.name for p in disk.iterdir()) == ["filler", "run"]
            (disk / "filler").unlink()
