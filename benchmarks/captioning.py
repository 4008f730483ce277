"""The captioner's numbers: true captions of scenes, BLEU on photos, images per second.

    python benchmarks/captioning.py scenes [--out RUNS]
    python benchmarks/captioning.py photos --data FOLDER [--out RUN]
    python benchmarks/captioning.py speed --run RUN --images FOLDER

Each rewrites its section of RESULTS.md. FOLDER of `photos` holds images/ and captions.csv; the
first 800 images by name train, the last 100 validate.
"""

from __future__ import annotations

import argparse
import collections
import csv
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from results import table, write

CLI = [sys.executable, "-m", "kerasrnn.cli"]
TRAIN, UNSEEN = 4000, 500
KINDS = {
    "Show and Tell": ["conditioning=first_input", "readout=plain", "context_dropout=0"],
    "soft attention": ["conditioning=gated"],
    "hard attention": ["conditioning=hard", "context_dropout=0"],
}
SEEN = 200  # images on which the three runtimes are compared


def run_of(command: list[str], out: Path) -> list[dict]:
    """Train into `out`, unless it is finished there: the rows of its history."""
    from kerasrnn.training.checkpoints import read_progress

    progress = read_progress(out)
    if progress is None or not progress.finished:
        subprocess.run([*CLI, "train", "captioner", *command, "--out", str(out)], check=True)
    with (out / "history.csv").open() as file:
        return list(csv.DictReader(file))


def minutes(rows: list[dict]) -> str:
    return f"{sum(float(row['seconds']) for row in rows) / 60:.1f}"


def scenes(out: Path) -> None:
    """Share of true captions, and how much of a shape's word looks at the shape."""
    from kerasrnn.pipelines.scenes import scene, write_scenes

    files = write_scenes(out / "scenes", train=TRAIN, valid=UNSEEN)
    unseen = [scene(0, number) for number in range(TRAIN, TRAIN + UNSEEN)]
    data = ["--images", files.images, "--captions", files.train, "--valid-captions", files.valid]
    rows = []
    for name, changes in KINDS.items():
        run = out / changes[0].partition("=")[2]
        history = run_of([*map(str, data), "--preset", "tiny", "--set", *changes], run)
        for drawn in (False, True)[: 1 + (name == "hard attention")]:
            true, pointed, words = judged(run, unseen, drawn)
            looked = f"{100 * pointed:.1f}%" if words else "(none)"
            shown = f"{name}, places drawn" if drawn else name
            rows.append([shown, f"**{100 * true:.1f}%**", looked, minutes(history)])
    header = ["decoder", "captions that are true", "weight on the shape named", "minutes"]
    body = f"""
{TRAIN:,} pictures of 64 x 64 train (preset `tiny`), {UNSEEN} others are described, beam 3.
The weight of the word for a shape (circle, square, triangle) on the cells that the shape covers, of
the 8 x 8 that there are, is a mean over all such words of true captions.

{table(header, rows)}
"""
    write("Captioner: scenes", "python benchmarks/captioning.py scenes", body)


def judged(run: Path, unseen, drawn: bool) -> tuple[float, float, int]:
    """(share of true captions, mean weight on the shapes named, how many words)."""
    from kerasrnn.pipelines.scenes import covered, mentions, referred
    from kerasrnn.tasks import run_folder
    from kerasrnn.tasks.captioner.task import Settings
    from kerasrnn.tasks.search import search_of

    model = run_folder.load_model(run)
    search = search_of(run, model, Settings)
    if drawn:
        model.drawn = True
    true, weights = 0, []
    for start in range(0, len(unseen), 50):
        some = unseen[start : start + 50]
        found = model.captions(np.stack([s.image for s in some]), **search)
        for scene, text, attention in zip(some, found.text[:, 0], found.attention, strict=True):
            shapes = referred(text.decode(), scene.shapes)
            true += shapes is not None
            for mention, shape in zip(mentions(text.decode()), shapes or [], strict=False):
                looked = attention[mention.word]
                if looked.any():
                    weights.append(float(looked[covered(shape, len(looked))].sum()))
    return true / len(unseen), float(np.mean(weights or [0.0])), len(weights)


def photos(data: Path, out: Path) -> None:
    """BLEU-1 to 4 on the last 100 photos, with a network trained from nothing on 800."""
    from kerasrnn.pipelines.captions import read_captions
    from kerasrnn.tasks.captioner.work import scores

    with (data / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["image"] for row in rows})
    out.mkdir(parents=True, exist_ok=True)
    parts = {"train": set(names[:800]), "test": set(names[-100:])}
    for part, inside in parts.items():
        with (out / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["image", "caption"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if row["image"] in inside)
    files = ["--images", str(data / "images"), "--captions", str(out / "train.csv")]
    run = out / "run"
    history = run_of([*files, "--preset", "flickr8k"], run)
    measure = [*CLI, "evaluate", str(run), "--json", "--captions", str(out / "test.csv")]
    figures = json.loads(subprocess.run(measure, check=True, capture_output=True).stdout)
    train, test = (read_captions(out / f"{p}.csv", data / "images") for p in parts)
    counts = collections.Counter(caption for one in train for caption in one.captions)
    constants = [text for text, _ in counts.most_common(200)]
    known, references = ([one.captions for one in part] for part in (train, test))
    best = max(constants, key=lambda text: scores([text] * len(known), known)["bleu_4"])
    constant = scores([best] * len(test), references)
    names = [f"bleu_{n}" for n in (1, 2, 3, 4)]
    ours = ["this model", *(f"**{figures[n]:.1f}**" for n in names)]
    base = ["one caption for all", *(f"{constant[n]:.1f}" for n in names)]
    body = f"""
The last 100 of 900 photos, five references each, beam 3; words in lower case, without punctuation,
closest reference length. **The network starts from nothing and sees 800 photos** (no
pretrained weights can be fetched here), {minutes(history)} minutes of training. The baseline says
"{best}" of every photo, the training caption that does best there.

{table(["", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"], [ours, base])}
"""
    write("Captioner: photos", "python benchmarks/captioning.py photos --data flickr8k_1k", body)


def speed(run: str, folder: Path, rounds: int) -> None:
    """Images per second, and whether the three say the same."""
    from translation_speed import exported_peer, interleaved, timed

    from kerasrnn.export.forms import answer
    from kerasrnn.pipelines.images import read_image
    from kerasrnn.tasks import run_folder
    from kerasrnn.tasks.captioner.task import Settings
    from kerasrnn.tasks.captioner.use import images_of
    from kerasrnn.tasks.exporting import export_run
    from kerasrnn.tasks.search import search_of

    model = run_folder.load_model(run)
    search = search_of(run, model, Settings)
    keras = functools.partial(answer, model.served(**search))
    images = [read_image(path)[np.newaxis] for path in images_of([str(folder)])][:SEEN]
    with tempfile.TemporaryDirectory() as inside:
        onnx, saved = export_run(run, Path(inside, "out"), ("onnx", "saved_model"))
        peers = {"Keras": timed(lambda: [keras({"image": i}) for i in images])}
        for name, artifact in (("SavedModel", saved), ("ONNX Runtime", onnx)):
            peers[name] = exported_peer(artifact, "image", images, inside)
        seconds = interleaved(peers, rounds)
        texts = [[str(keras({"image": i})["text"][0, 0]) for i in images]]
        for peer in list(peers.values())[1:]:
            texts.append(peer.answer)
            peer.close()
    same = sum(len({*row}) == 1 for row in zip(*texts, strict=True))
    speeds = [f"{len(images) / s:.1f}" for s in seconds.values()]
    onnx = seconds["ONNX Runtime"]
    ratios = [f"{s / onnx:.2f}x" for name, s in seconds.items() if s != onnx]
    header = [*seconds, *(f"ONNX / {name}" for name in seconds if name != "ONNX Runtime")]
    body = f"""
Beam {search["rules"].beam}, images per second, one at a time, each of its own size, medians of
{rounds} interleaved rounds over {len(images)} images.

{table(header, [[*speeds, *ratios]])}

{", ".join(seconds)} say the same of {same} of {len(images)} images.
"""
    command = "python benchmarks/captioning.py speed --run RUN --images flickr8k_1k/images"
    write("Captioner: decoding", command, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("scenes")
    second = commands.add_parser("photos")
    second.add_argument("--data", type=Path, required=True)
    for part in (first, second):
        part.add_argument("--out", type=Path)
    third = commands.add_parser("speed")
    third.add_argument("--run", required=True)
    third.add_argument("--images", type=Path, required=True)
    third.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.command == "speed":
        return speed(args.run, args.images, args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        if args.command == "scenes":
            scenes(out)
        else:
            photos(args.data, out)
    return None


if __name__ == "__main__":
    main()
