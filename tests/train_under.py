"""A program: a small job of a task on so many replicas; prints its history as JSON.

`python -m tests.train_under TASK OUT [--replicas N] [--data-service ADDRESS] [--every S]
[--wait S] [NAME=VALUE ...]`; under TF_CONFIG it is one of the workers. `--every` is the time
between two checkpoints, whatever they cost; `--wait` is how long the data service may take.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import json
import pickle
import sys
from pathlib import Path

import tensorflow as tf

from kerasrnn import distribution
from kerasrnn.base.ending import end_process
from kerasrnn.pipelines import service
from kerasrnn.pipelines.dates import write_dates
from kerasrnn.pipelines.scenes import write_scenes
from kerasrnn.tasks.captioner import work as captioning
from kerasrnn.tasks.lm import work as language_model
from kerasrnn.tasks.settings import with_changes
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator import work as translation
from kerasrnn.tasks.trust import import_packages
from kerasrnn.training import interruption
from kerasrnn.training.interruption import Interrupted
from tests.toys.data import DATA

TEXT = "the cat sat on the mat and the rat ran to the hat; a dog dug a den. " * 60
CLOCK = ("seconds", "tokens_per_second")
SAME = {"units": 16, "embedding": 8, "dropout": 0.0, "epochs": 5, "learning_rate": 1e-2}


def once(folder: Path, write):
    """What `write` gives; made by the first process, read by those that follow."""
    made = folder / "made.pickle"
    if not made.exists():
        made.write_bytes(pickle.dumps(write()))
    return pickle.loads(made.read_bytes())


def lm(folder: Path, out: str, change):
    text = folder / "text.txt"
    text.write_text(TEXT)
    settings = {"batch_size": 12, "window": 40, "layers": 1}
    s = dataclasses.replace(language_model.Settings(), **SAME, **settings)
    return language_model.Job(text=[str(text)], settings=change(s), seed=5, out=out)


def translator(folder: Path, out: str, change):
    dates = once(folder, lambda: write_dates(folder, train=165, valid=9))
    settings = {"batch_size": 16, "max_tokens": 36, "pad_to_multiple": 36, "batch_by": "sentences"}
    s = change(dataclasses.replace(translation.Settings(), **SAME, **settings))
    names = {"source": "train_source", "target": "train_target"}
    names |= {name: name for name in ("valid_source", "valid_target")}
    files = {option: str(getattr(dates, name)) for option, name in names.items()}
    return translation.Job(**files, level="char", settings=s, seed=5, out=out)


def captioner(folder: Path, out: str, change):
    scenes = once(folder, lambda: write_scenes(folder, train=41, valid=5))
    settings = {"image_size": 16, "batch_size": 16, "max_tokens": 30, "pad_to_multiple": 32}
    s = change(dataclasses.replace(captioning.Settings(), **SAME, **settings))
    names = {"images": "images", "captions": "train", "valid_captions": "valid"}
    files = {option: str(getattr(scenes, name)) for option, name in names.items()}
    return captioning.Job(**files, settings=s, seed=5, out=out)


def toy(name: str, folder: Path, out: str, change):
    """A job of a toy, whose package the user would name with --import."""
    import_packages([f"tests.toys.{name}"])
    task = importlib.import_module(f"tests.toys.{name}.task").TASK
    option, path = DATA[name](folder)
    files = {option.strip("-"): str(path)}
    settings = change(dataclasses.replace(task.presets["small"], epochs=5))
    return task.job(**files, settings=settings, seed=5, out=out)


TASKS = {"lm": lm, "translator": translator, "captioner": captioner}
TOYS = {name: functools.partial(toy, name) for name in DATA}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS | TOYS)
    parser.add_argument("out")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--every", type=float)
    parser.add_argument("--data-service")
    parser.add_argument("--wait", type=float, default=service.WAIT)
    parser.add_argument("changes", nargs="*")
    args = parser.parse_intermixed_args(argv)
    if args.every is not None:
        interruption.SECONDS, interruption.SHARE = args.every, float("inf")
    service.WAIT = args.wait
    folder = args.data or Path(args.out).parent / "data"
    folder.mkdir(exist_ok=True)
    job = (TASKS | TOYS)[args.task](folder, args.out, lambda s: with_changes(s, args.changes))
    job = dataclasses.replace(job, data_service=args.data_service)
    if args.replicas > 1:
        [cpu] = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * args.replicas
        tf.config.set_logical_device_configuration(cpu, devices)
        job = dataclasses.replace(job, strategy="mirrored")
    try:
        train(job, lambda text: print(text, file=sys.stderr), verbose=0)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except (distribution.WorkerLost, service.ServiceLost) as lost:
        print(lost, file=sys.stderr)
        end_process(1)
    if not distribution.is_chief():
        return
    lines = [line.split(",") for line in (Path(args.out) / "history.csv").read_text().splitlines()]
    print(json.dumps([dict(zip(lines[0], line, strict=True)) for line in lines[1:]]))


if __name__ == "__main__":
    main()
