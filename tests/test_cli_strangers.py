"""Pictures, texts, vectors, checkpoints and configurations of strangers: one line, little memory,
nothing outside. Models are in test_trust.py, exported files in test_untrusted.py."""

import gzip
import io
import json
import pickle
import re
import struct
import tracemalloc
import zipfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.cli import command as cli
from kerasrnn.pipelines import images, reading
from kerasrnn.pipelines.captions import Captioned
from kerasrnn.pipelines.embeddings import load_vectors
from kerasrnn.pipelines.images import read_image, usable
from kerasrnn.pipelines.store import Store
from kerasrnn.pipelines.text import read_text
from kerasrnn.tasks import evaluation, run_folder
from kerasrnn.tasks.captioner import work as captioning
from kerasrnn.tasks.captioner.use import caption_files
from kerasrnn.tasks.lm import work as language_model
from kerasrnn.tasks.measuring import Known, Measured
from kerasrnn.tasks.translator import work as translation
from kerasrnn.training import checkpoints
from kerasrnn.training.checkpoints import Progress
from tests.conftest import ROOT

FEW = 8 << 20  # bytes of memory


class Trap:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def peak(work) -> int:
    """The most bytes that Python held while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- pictures ---


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(width: int, height: int, *extra: bytes, rows: bytes = b"\0" * 1000) -> bytes:
    """A PNG of 8 bits in colour whose header says so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, data, chunk(b"IEND", b"")])


def animated() -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


PICTURES = {
    "60,000 x 60,000": (png(60_000, 60_000), images.LARGE),
    "above Pillow's warning": (png(11_000, 11_000), images.LARGE),
    "a header that says more": (png(300, 300), images.BROKEN),
    "a text that unpacks": (
        png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 << 20)))),
        images.BROKEN,
    ),
    "no colours that unpack": (
        png(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50 << 20))), rows=b""),
        images.BROKEN,
    ),
    "a moving GIF": (animated(), images.FOREIGN),
    "a JPEG without its rows": (b"\xff\xd8\xff\xe0" + bytes(60), images.BROKEN),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_would_fill_the_memory_are_left_out(tmp_path, name):
    content, reason = PICTURES[name]
    path, good = tmp_path / "a.png", tmp_path / "good.png"
    path.write_bytes(content)
    Image.new("RGB", (4, 4), "red").save(good)
    refused = []
    assert peak(lambda: list(caption_files(None, [path], refused.append))) < FEW
    assert [str(error) for error in refused] == [
        f"image: expected a JPEG or PNG, got {path} ({reason}); mend it or leave it out"
    ]
    kept, report = usable([Captioned(path, ("a",)), Captioned(good, ("b",))])
    assert [one.image for one in kept] == [good] and report.dropped == {reason: 1}
    with pytest.raises(images.ImageError, match=re.escape(f"({reason})")):
        Store(tmp_path, "pixels", lambda pixels: pixels).fill([path])


def test_a_file_too_long_to_be_a_picture_is_not_read(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.write(png(4, 4))
        file.truncate(100_000_000_000)  # of which the disk holds nothing
    with pytest.raises(images.ImageError, match=re.escape(f"({images.LARGE})")):
        read_image(path)


# --- texts and vectors ---


def test_gzip_that_unpacks_without_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reading, "SPARE", 1 << 20)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b" " * (20 << 20)))
    expected = (
        f"expected gzip of text, which is at most 100 times as long, got {path}, which is longer; "
        "unpack it first if you trust it"
    )
    assert cli.main(["train", "lm", "--text", str(path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"kerasrnn: --text: {expected}\n"
    command = ["train", "translator", "--source", str(path), "--out", str(tmp_path / "run")]
    assert cli.main(command) == 2
    assert expected in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["text.gz"]


def test_gzip_of_a_real_text_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SPARE", 0)
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress((ROOT / "README.md").read_bytes()))
    assert "".join(read_text(path)).startswith("# kerasrnn")


@pytest.mark.parametrize("read", [reading.lines, read_text])
def test_a_line_without_end_fills_no_memory(tmp_path, read):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"a" * (20 << 20)))

    def work():
        for _ in read(path):
            pass

    assert peak(work) < 2 * FEW


def test_vectors_that_say_more_than_they_have(tmp_path):
    path = tmp_path / "vectors"
    for content, reason in (
        (b"1000000 1000000\na 1 2\n", "it is shorter than it says"),
        (b"9" * 5000 + b" 1\na 1\n", None),
        (pickle.dumps(Trap(tmp_path / "trapped")), None),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError) as error:
            load_vectors(path, ["", "", "", "", "a"])
        said = str(error.value)
        assert said.startswith("embeddings: expected ") and str(path) in said
        assert reason is None or said.endswith(f"({reason}); check the file")
    assert not (tmp_path / "trapped").exists()


# --- checkpoints ---


def written(run, *, state: bytes | None = None, progress=None, digests=None):
    """A checkpoint of a stranger: its digests are right."""
    state = checkpoints.pack({"seed": [np.array([1])]}) if state is None else state
    checkpoints.write(run, Progress(), lambda path: path.write_bytes(b"model"), [state])
    folder = run / "checkpoint" / Progress().name
    if progress is not None:
        (folder / "progress.json").write_text(json.dumps(progress))
    names = json.loads((folder / "digests.json").read_text())
    names = {name: checkpoints._digest(folder / name) for name in names} | (digests or {})
    (folder / "digests.json").write_text(json.dumps(names))
    return run / "checkpoint"


def pickled(tmp_path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"seed/0": np.array([Trap(tmp_path / "trapped")], object)})
    return buffer.getvalue()


def bomb(tmp_path) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"seed/0": np.zeros(20 << 20, np.uint8)})
    return buffer.getvalue()


def lying(tmp_path) -> bytes:
    """An array whose header says a petabyte."""
    array = io.BytesIO()
    np.save(array, np.zeros(1, np.uint8))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        content = array.getvalue().replace(b"(1,), }             ", b"(1000000000000000,), }")
        archive.writestr("seed/0.npy", content)
    return buffer.getvalue()


STATES = {
    pickled: "allow_pickle=False",
    bomb: "unpacks to far more than it is",
    lying: "says more than it has",
}


@pytest.mark.parametrize("made", STATES)
def test_states_of_a_stranger_are_a_damaged_checkpoint(tmp_path, made):
    folder, seen = written(tmp_path, state=made(tmp_path)), []

    def read():
        with pytest.raises(InputError) as error:
            checkpoints.newest_checkpoint(tmp_path)
        seen.append(str(error.value))

    assert peak(read) < FEW
    assert seen[0].startswith(f"RUN: expected a whole checkpoint, got {folder} (")
    assert STATES[made] in seen[0] and not (tmp_path / "trapped").exists()


ENTRIES = {
    "a path": ({"digests": {"../../secret": "0"}}, "digests.json names '../../secret'"),
    "a place": ({"digests": {"/etc/passwd": "0"}}, "digests.json names '/etc/passwd'"),
    "no number": (
        {"progress": {"epoch": "../..", "batch": 0}},
        "progress.json has no numbers",
    ),
    "no row": ({"progress": {"epoch": 1, "rows": ["a"]}}, "progress.json has no rows"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_names_in_a_checkpoint_lead_nowhere(tmp_path, name, monkeypatch):
    changes, reason = ENTRIES[name]
    folder, warned, read = written(tmp_path, **changes), [], []
    digest = checkpoints._digest
    monkeypatch.setattr(checkpoints, "_digest", lambda path: (read.append(path), digest(path))[1])
    with pytest.raises(InputError) as error:
        checkpoints.newest_checkpoint(tmp_path, warned.append)
    said = f"got {folder} ({reason}); copy it again, or train it again with --overwrite"
    assert str(error.value) == f"RUN: expected a whole checkpoint, {said}"
    assert all(path.parent.parent == folder and ".." not in path.parts for path in read)


def test_checkpoints_that_lie_elsewhere_are_not_removed(tmp_path):
    """They would be: only the last are kept."""
    run, other = tmp_path / "run", tmp_path / "2020"
    run.mkdir()
    other.mkdir()
    (run / "checkpoint").symlink_to(tmp_path)
    for work in (
        lambda: checkpoints.newest_checkpoint(run),
        lambda: checkpoints.write(run, Progress(), lambda path: path.touch(), []),
    ):
        with pytest.raises(InputError) as error:
            work()
        assert str(error.value) == (
            f"RUN: expected a folder of checkpoints, got {run / 'checkpoint'}, a link; put what it "
            "leads to there"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2020", "run"]


# --- configurations ---


def write_config(folder, **more) -> None:
    config = {"format": run_folder.FORMAT, "settings": {}, "versions": {"kerasrnn": "9.9"}, **more}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("settings", "fault"), [({"units": "many"}, "units='many'"), ({"colour\n": 1}, r"colour\n=1")]
)
def test_settings_that_this_version_has_not(tmp_path, settings, fault):
    write_config(tmp_path, settings=settings)
    for task in (language_model, translation, captioning):
        with pytest.raises(InputError) as error:
            run_folder.read_settings(tmp_path, task.Settings)
        assert str(error.value) == (
            f"RUN: expected settings that this version knows, got {fault} in "
            f"{tmp_path / 'config.json'}, written by kerasrnn 9.9; {run_folder.OTHER_VERSION}"
        )


def test_the_settings_of_every_preset_are_of_this_version(tmp_path):
    for task in (language_model, translation, captioning):
        for preset in task.TASK.presets.values():
            write_config(tmp_path, settings=preset.__dict__)
            assert run_folder.read_settings(tmp_path, task.Settings) == preset


def test_evaluate_says_which_files_a_config_names(tmp_path, capsys, monkeypatch):
    measured = lambda known, folder, say, text: Measured(said={"nats": 1.0})  # noqa: E731
    monkeypatch.setattr(language_model.WORK, "measured", measured)
    monkeypatch.setattr(evaluation, "known_of_run", lambda *_: None)
    model = SimpleNamespace(served=lambda: None)
    monkeypatch.setattr(evaluation, "load_run", lambda _: (None, model))
    data = {"files": {"text": ["/etc/passwd"]}, "sha256": {"text": "0"}}
    write_config(tmp_path, task="lm", data=data)
    assert cli.main(["evaluate", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"reading what {tmp_path} names: /etc/passwd\n"
    assert cli.main(["evaluate", str(tmp_path), "--text", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    for data in (None, [], {}, {"files": {"text": 3}, "sha256": {"text": "0"}}):
        write_config(tmp_path, task="lm", data=data)
        assert cli.main(["evaluate", str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            "kerasrnn: RUN: expected a run that says what it was trained on, got "
            f"{tmp_path}, which does not; give --text\n"
        )


def test_evaluate_fills_no_folder_that_only_a_config_names(tmp_path, monkeypatch):
    run, home = tmp_path / "run", tmp_path / "home"
    settings = captioning.Settings()
    job = captioning.Job(
        images="i", captions="c", settings=settings, seed=1, out=str(run), cache=str(home)
    )
    filled = []

    def fill(store, paths):
        filled.append(store.folder)
        raise InterruptedError

    known = Known(settings, (), [], job, run, SimpleNamespace())
    monkeypatch.setattr(captioning, "measured_images", lambda *_: [])
    monkeypatch.setattr(
        captioning, "store_of", lambda model, job, run: Store(job.cache or run, "pixels-8", None)
    )
    monkeypatch.setattr(Store, "fill", fill)
    for made, folder in ((False, run), (True, home)):
        if made:  # training filled it
            (home / "pixels-8").mkdir(parents=True)
        with pytest.raises(InterruptedError):
            captioning.WORK.measured(known, tmp_path, print)
        assert filled[-1] == folder / "pixels-8"


def test_jobs_of_every_task_come_back(tmp_path):
    given = {"level": "char", "seed": 1, "out": str(tmp_path)}
    jobs = [
        (language_model, {"text": ["/a"], "valid_text": ["/b"]}),
        (translation, {"source": "/a", "target": None, "valid_source": "/b"}),
        (captioning, {"images": "/a", "captions": "/b", "cnn_weights": "imagenet", "cache": "/c"}),
    ]
    for task, named in jobs:
        job = task.Job(**named, **given, settings=task.Settings())
        files = job.files()
        options = {n: v for n, v in vars(job).items() if n not in {*files, "settings", "out"}}
        settings = vars(job.settings)
        write_config(tmp_path, settings=settings, job=options, data={"files": files})
        assert run_folder.read_job(tmp_path, task.Job, task.Settings) == job


# --- the page ---


def test_the_page_shows_what_a_model_says_as_text():
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|eval\("
    scripts = sorted((ROOT / "export" / "page").glob("*.js"))
    assert [path.name for path in scripts] == ["inputs.js", "page.js", "stream.js"]
    for path in [*scripts, ROOT / "export" / "page" / "index.html"]:
        assert not re.search(rf"{ways}|srcdoc|new Function|DOMParser", path.read_text())
    text = scripts[1].read_text()
    assert '$("text").textContent = text' in text and "textContent = said.title" in text
