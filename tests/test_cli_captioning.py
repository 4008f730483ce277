"""`train captioner`, `caption`, `evaluate` and `export` as a user has them."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from kerasrnn.engine.recurrence import Plan
from kerasrnn.pipelines.captions import read_captions
from kerasrnn.pipelines.scenes import write_scenes
from kerasrnn.tasks.captioner import use as caption
from kerasrnn.tasks.captioner import work as captioning
from tests.test_cli import call, refused, without_tensorflow

SET = [
    "--set",
    "image_size=16",
    "units=8",
    "embedding=6",
    "pad_to_multiple=32",
    "learning_rate=0.01",
]
TRAIN = ["--preset", "tiny", "--epochs", "2", "--batch-size", "20", *SET]


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Every recurrence as the plain loop: these tests are not about its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerasrnn.engine.recurrence._choose", lambda *_: Plan("loop", "a test"))
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=24, valid=6)


def files(scenes) -> list:
    return ["--images", scenes.images, "--captions", scenes.train]


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    """A run on scenes and its exports."""
    from kerasrnn.cli import command as cli

    folder = tmp_path_factory.mktemp("cli")
    command = ["train", "captioner", *files(scenes), "--out", folder / "run", *TRAIN]
    command += ["--valid-captions", scenes.valid]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert cli.main([*map(str, command), "--json"]) == 0
    options = ["--beam", "2", "--n-best", "2", "--max-length", "9"]
    command = ["export", folder / "run", "--out", folder / "export", *options]
    assert cli.main([str(part) for part in command]) == 0
    return folder


def test_what_a_run_leaves(folder, scenes):
    run = folder / "run"
    inside = {path.name for path in run.iterdir()}
    assert {"model.keras", "config.json", "history.csv", "samples.txt", "images"} <= inside
    [told] = (folder / "out").read_text().splitlines()
    assert json.loads(told)["run"] == str(run)
    err = (folder / "err").read_text()
    assert "training: 24 images" in err and "validation: 6 images" in err
    with (run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and {f"val_bleu_{n}" for n in (1, 2, 3, 4)} <= rows[0].keys()
    assert len(list((run / "images" / "pixels-16").iterdir())) == 30
    assert "00024.png" in (run / "samples.txt").read_text()


def test_three_runtimes_say_the_same(folder, scenes, capsys):
    pictures = sorted(scenes.images.iterdir())[:3]
    search = ["--beam", "2", "--n-best", "2", "--max-length", "9"]
    models = {folder / "run": search, folder / "export" / "model.onnx": ["--n-best", "2"]}
    models[folder / "export" / "saved_model"] = ["--n-best", "2"]
    found = []
    for model, options in models.items():
        _, lines, _ = call(capsys, "caption", model, *pictures, "--json", *options)
        rows = [json.loads(line) for line in lines.splitlines()]
        assert [row["image"] for row in rows] == list(map(str, pictures))
        assert all(len(row["text"]) == 2 for row in rows)
        found.append([row["text"] for row in rows])
    assert found[0] == found[1] == found[2]


def test_an_onnx_file_needs_no_tensorflow(folder, scenes, tmp_path):
    picture = scenes.images / "00000.png"
    said = without_tensorflow("caption", folder / "export" / "model.onnx", picture)
    assert said.startswith(f"{picture}\t")
    table = tmp_path / "captions.csv"
    without_tensorflow("caption", folder / "export" / "model.onnx", picture, "--out", table)
    with table.open(encoding="utf-8", newline="") as file:
        [row] = csv.DictReader(file)
    assert f"{row['image']}\t{row['text']}\n" == said and float(row["score"]) < 0


def test_an_export_is_verified_later(folder, scenes, capsys):
    run, exported = folder / "run", folder / "export"
    names = ("model.onnx", "score.onnx", "saved_model")
    artifacts = [exported / name for name in names]
    code, out, _ = call(capsys, "verify", run, exported)
    assert out.splitlines() == [f"{path}: does what {run} does" for path in artifacts] and not code
    for given, message in (
        (folder / "none", f"an export, got {folder / 'none'}, which is not there; check the path"),
        (scenes.images, f"what `kerasrnn export` wrote, got {scenes.images}; export it again"),
    ):
        assert refused(capsys, "verify", run, given) == f"kerasrnn: EXPORT: expected {message}"


def test_folders_stdin_and_faulty_images(folder, scenes, tmp_path, capsys, monkeypatch):
    good = tmp_path / "photos" / "a.JPG"
    good.parent.mkdir()
    Image.fromarray(np.full([20, 30, 3], 90, np.uint8)).save(good, "JPEG")
    (good.parent / "b.png").write_bytes(b"")
    (good.parent / "notes.txt").write_text("no image")
    _, out, err = call(capsys, "caption", folder / "run", good.parent, "--max-length", "5")
    [line] = out.splitlines()
    assert line.startswith(f"{good}\t")
    assert "b.png (zero bytes)" in err and "1 of 2 left out" in err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{good}\n\n{scenes.images / '00000.png'}\n"))
    _, out, _ = call(capsys, "caption", folder / "run", "--max-length", "5")
    assert out.startswith(f"{good}\t") and len(out.splitlines()) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    nothing = "IMAGE: expected image files, or paths on stdin, got none; give some"
    assert refused(capsys, "caption", folder / "run") == f"kerasrnn: {nothing}"
    code, _, err = call(capsys, "caption", folder / "run", good.parent, "--strict")
    assert code == 2 and err.count("\n") == 1 and "b.png (zero bytes)" in err


def test_the_picture_of_where_it_looked(folder, scenes, tmp_path, capsys):
    plot, [first, second, *_] = tmp_path / "where.png", sorted(scenes.images.iterdir())
    call(capsys, "caption", folder / "run", first, second, "--attention", plot, "--max-length", "6")
    for path in (plot, tmp_path / "where-2.png"):
        with Image.open(path) as picture:
            assert picture.width > 250 and len(set(picture.convert("L").getdata())) > 50


def test_a_large_photo_is_drawn_at_the_size_of_the_plot(tmp_path, monkeypatch):
    handed = []

    def draw(image, words, attention, path):
        handed.append(image)
        path.touch()

    monkeypatch.setattr("kerasrnn.analysis.plots.attention_over_image", draw)
    found = caption.Found(["a b"], [0.0], ["a", "b"], np.zeros([2, 4, 4]))
    photo = np.zeros([2000, 1500, 3], np.uint8)
    photo[:, 750:] = 200
    for image in (photo, photo[:40, 730:760]):
        caption.plot(image, found, tmp_path / "where.png")
    large, small = handed
    assert large.shape == (600, 450, 3) and small.shape == (40, 30, 3)
    assert (large[:, :220] == 0).all() and (large[:, 230:] == 200).all()


def test_a_picture_that_cannot_be_drawn_is_refused_first(folder, tmp_path, capsys):
    for plot, message in (
        (tmp_path / "none" / "a.png", f"a folder that exists, got {tmp_path / 'none'}; make it"),
        (tmp_path / "a.gif", f"a name in .png, .pdf, .svg, got {tmp_path / 'a.gif'}; add .png"),
    ):
        said = refused(capsys, "caption", folder / "run", tmp_path, "--attention", plot)
        assert said.startswith(f"kerasrnn: --attention: expected {message}")


def test_evaluate(folder, scenes, capsys):
    _, out, _ = call(capsys, "evaluate", folder / "run", "--json")
    held, figures = json.loads(out), ("bleu_1", "bleu_4", "nats", "perplexity")
    assert held["images"] == 6 and all(name in held for name in figures)
    given = ["--images", scenes.images, "--captions", scenes.valid]
    again = json.loads(call(capsys, "evaluate", folder / "run", *given, "--json")[1])
    assert again == held


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--captions", "none.csv"], "captions"),
        (["--set", "backbone=VGG17"], "backbone: expected one of small"),
        (
            ["--set", "trainable_stages=0", "flip=true"],
            "trainable_stages: expected flip=false, min_crop=1",
        ),
        (["--set", "min_crop=0"], "min_crop: expected a share above 0, at most 1, got 0"),
        (["--set", "context_dropout=1"], "context_dropout: expected a share from 0 to below 1"),
        (
            ["--set", "conditioning=once", "context_dropout=0.5"],
            "context_dropout: expected 0 with conditioning=once, whose cell is fed no context",
        ),
        (["--set", "conditioning=none"], "conditioning: expected one of once, every_step"),
        (["--cnn-weights", "none.h5"], "--cnn-weights: expected a file, imagenet or none"),
        (["--set", "image_size=50"], "image_size: expected 16, 32, 64"),
        (["--set", "coverage_weight=-1"], "coverage_weight: expected 0 or more, got -1"),
    ],
)
def test_what_training_refuses(options, text, scenes, tmp_path, capsys):
    given = ["train", "captioner", *files(scenes), "--out", tmp_path / "run", "--preset", "tiny"]
    assert text in refused(capsys, *given, *options)
    assert not (tmp_path / "run").exists()


def test_what_is_not_for_captioners(folder, scenes, capsys):
    assert "--text: expected --images and --captions for a captioner" in refused(
        capsys, "evaluate", folder / "run", "--text", scenes.train
    )
    assert "use `kerasrnn caption`" in refused(capsys, "translate", folder / "run", scenes.train)
    exported = folder / "export" / "model.onnx"
    assert "use `kerasrnn caption`" in refused(capsys, "generate", exported, "--prompt", "a")
    picture = scenes.images / "00000.png"
    assert "--beam: expected a run folder beside it" in refused(
        capsys, "caption", exported, picture, "--beam", "4"
    )
    assert "--n-best: expected at most 2, as exported, got 3" in refused(
        capsys, "caption", exported, picture, "--n-best", "3"
    )


@pytest.mark.slow
def test_a_quantized_export(folder, scenes, karpathy, tmp_path, capsys):
    out, given = tmp_path / "small", ("--captions", karpathy)
    options = ("--format", "onnx", "--out", out, "--quantize", "int8", *given)
    code, told, err = call(capsys, "export", folder / "run", *options, "--json")
    figures = json.loads(told)["measured"][f"{out}/model.int8.onnx"]
    assert code == 0 and figures["full"]["images"] == figures["int8"]["images"] == 2
    assert "on 2 images, split test" in err
    evaluated = json.loads(call(capsys, "evaluate", folder / "run", *given, "--json")[1])
    assert evaluated["split"] == figures["full"]["split"] == "test"
    for n in (1, 2, 3, 4):
        assert figures["full"][f"bleu_{n}"] == pytest.approx(evaluated[f"bleu_{n}"], abs=1e-6)
    picture = sorted(scenes.images.iterdir())[0]
    assert call(capsys, "caption", out / "model.int8.onnx", picture)[0] == 0


@pytest.fixture(scope="module")
def karpathy(folder, scenes, tmp_path_factory):
    """The six images that validate, as a file in Karpathy's format: 1 val, 2 test, 3 train."""
    captioned = read_captions(scenes.valid, scenes.images)
    splits = ("val", "test", "test", "train", "train", "train")
    images = [
        {"filename": c.image.name, "split": s, "sentences": [{"raw": t} for t in c.captions]}
        for c, s in zip(captioned, splits, strict=True)
    ]
    path = tmp_path_factory.mktemp("karpathy") / "dataset_scenes.json"
    path.write_text(json.dumps({"images": images}))
    return path


def test_a_split_is_measured_alone(folder, karpathy, capsys):
    captioned = read_captions(karpathy, "images")
    for name, count in (("val", 1), ("test", 2), ("train", 3), (None, 2)):
        some = captioning.of_split(captioned, name, karpathy)
        assert [one.split for one in some] == [name or "test"] * count
    assert captioning.split_of(captioned) == {"split": "test, train, val"}
    options = ("--captions", karpathy, "--split", "val")
    code, out, _ = call(capsys, "evaluate", folder / "run", *options)
    assert code == 0 and out.endswith("images 1, split val\n")


def test_a_split_that_is_not_there(folder, karpathy, scenes, tmp_path, capsys):
    other = tmp_path / "two.json"
    data = json.loads(karpathy.read_text())
    other.write_text(json.dumps({"images": [i for i in data["images"] if i["split"] != "val"]}))
    for file, has, step in (
        (other, "test and train", "choose test or train"),
        (scenes.valid, "no splits", "leave it out"),
    ):
        line = refused(capsys, "evaluate", folder / "run", "--captions", file, "--split", "val")
        wanted = f"--split: expected a file with the split val, got {file}, which has {has}; {step}"
        assert line == f"kerasrnn: {wanted}"
    line = refused(capsys, "evaluate", folder / "run", "--split", "test")  # what it validated on
    assert f"got {scenes.valid}, which has no splits; leave it out" in line
