"""What training on several devices costs: strategy, gradients, input, checkpoints.

    python benchmarks/distribution.py [--steps 40] [--rounds 9] [--size 1.0]

On two cores nothing can scale, so what can be measured is: how much slower a step is under a
strategy of one replica, how many bytes of gradients a step has to sum, how fast batches are made,
how long checkpoints take. From the bytes the cost on 8 and 64 GPUs is worked out. It trains the
preset "small" of each task, on one CPU, on data made here; `--size` is that of the data. It
rewrites its section of RESULTS.md.

B batch, T time, D width, V vocabulary, N replicas.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from results import table, write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from language_model import write_large

from kerasrnn.distribution import distribute
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.dates import write_dates
from kerasrnn.pipelines.scenes import write_scenes
from kerasrnn.tasks.captioner import work as captioning
from kerasrnn.tasks.lm import work as language_model
from kerasrnn.tasks.training import train
from kerasrnn.tasks.translator import work as translation
from kerasrnn.training import interruption

WORDS = 30_000
REPLICAS = (2, 8, 64)
# Assumed, not measured: bytes a second that one GPU can send while it receives as many.
LINKS = {
    "NVLink 4, 450 GB/s": 450e9,
    "PCIe 4 x16, 25 GB/s": 25e9,
    "Ethernet of 100 Gbit/s, 12.5 GB/s": 12.5e9,
    "Ethernet of 10 Gbit/s, 1.25 GB/s": 1.25e9,
}
NOTICED = 0.1  # the share of a step that communication may take


def lm(folder: Path, size: float, out: Path, **more):
    write_large(folder / "text.txt", 0.001 * size)
    settings = dataclasses.replace(language_model.TASK.presets["small"], epochs=1)
    text = [str(folder / "text.txt")]
    return language_model.Job(text=text, settings=settings, seed=1, out=str(out), **more)


def words(folder: Path, size: float, out: Path, **more):
    """The same model over words, drawn as Zipf's law has it, each of them at least once."""
    rng, ranks = np.random.default_rng(0), np.arange(1, WORDS + 1)
    drawn = rng.choice(WORDS, round(300_000 * max(size, 0.2)), p=1 / ranks / sum(1 / ranks))
    text = " ".join(f"w{i}" for i in [*rng.permutation(WORDS), *drawn])
    (folder / "words.txt").write_text(text)
    changed = {"epochs": 1, "vocabulary": WORDS}
    settings = dataclasses.replace(language_model.TASK.presets["small"], **changed)
    data = {"text": [str(folder / "words.txt")], "level": "word"}
    return language_model.Job(**data, settings=settings, seed=1, out=str(out), **more)


def translator(folder: Path, size: float, out: Path, **more):
    dates = write_dates(folder, train=round(20_000 * size), valid=100)
    settings = dataclasses.replace(translation.TASK.presets["small"], epochs=1)
    names = ("source", "target", "valid_source", "valid_target")
    data = dict(zip(names, map(str, dates), strict=True))
    options = {"level": "char", "settings": settings, "seed": 1, "out": str(out)}
    return translation.Job(**data, **options, **more)


def captioner(folder: Path, size: float, out: Path, **more):
    scenes = write_scenes(folder, train=round(4000 * size), valid=50)
    settings = dataclasses.replace(captioning.TASK.presets["small"], epochs=1)
    images, train, valid = map(str, (scenes.images, scenes.train, scenes.valid))
    data = {"images": images, "captions": train, "valid_captions": valid}
    return captioning.Job(**data, settings=settings, seed=1, out=str(out), **more)


TASKS = {"language model": lm, "translator": translator, "captioner": captioner}


@dataclass
class Prepared:
    """What `train` would have fitted, and on what."""

    model: keras.Model
    at: Callable


class _Enough(Exception):
    pass


def prepared(make, folder: Path, size: float, strategy: str) -> Prepared:
    """A job of a task up to its first step."""
    found = []

    def keep(model, at, *_):
        found.append(Prepared(model, at))
        raise _Enough

    job = make(folder, size, folder / strategy, strategy=strategy)
    fit, interruption.fit = interruption.fit, keep
    try:
        train(job, lambda text: None, verbose=0)
    except _Enough:
        return found[0]
    finally:
        interruption.fit = fit
    raise RuntimeError("training did not begin")


class Clock(keras.callbacks.Callback):
    """Seconds a step, the first left out."""

    def on_epoch_begin(self, epoch, logs=None):
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())

    @property
    def step(self) -> float:
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def step_seconds(job: Prepared, steps: int) -> float:
    """Seconds a step of `fit`."""
    strategy, clock = job.model.distribute_strategy, Clock()
    data = distribute(lambda shard: job.at(Position(), shard).take(steps), strategy)
    job.model.fit(data, callbacks=[clock], verbose=0, shuffle=False)
    return clock.step


def batch_seconds(job: Prepared, steps: int) -> float:
    """Seconds a batch when nothing else is done."""
    batches = iter(job.at(Position(), (0, 1)))
    next(batches)
    begin, count = time.perf_counter(), 0
    for _ in zip(range(steps * 4), batches, strict=False):
        count += 1
    return (time.perf_counter() - begin) / count


def checkpoint_seconds(make, folder: Path, size: float) -> tuple[float, float, int]:
    """(seconds of an epoch, of it in checkpoints, how many) of a training of one epoch."""
    spent, save = [], interruption.Checkpoints._save

    def timed(self):
        begin = time.perf_counter()
        save(self)
        spent.append(time.perf_counter() - begin)

    job = make(folder, size, folder / "epoch", strategy="one-device")
    fit, ran = interruption.fit, []

    def whole(*arguments):
        begin = time.perf_counter()
        fit(*arguments)
        ran.append(time.perf_counter() - begin)

    interruption.Checkpoints._save, interruption.fit = timed, whole
    try:
        train(job, lambda text: None, verbose=0)
    finally:
        interruption.Checkpoints._save, interruption.fit = save, fit
    return ran[0], sum(spent), len(spent)


def measured(name: str, size: float, steps: int, rounds: int) -> tuple[list, list, list]:
    """A row of each table for one task."""
    with tempfile.TemporaryDirectory() as place:
        folder, make = Path(place), TASKS[name]
        jobs = {s: prepared(make, folder, size, s) for s in ("one-device", "mirrored")}
        times = {s: [] for s in jobs}
        for number in range(rounds + 1):
            for strategy in sorted(jobs, reverse=number % 2):
                times[strategy].append(step_seconds(jobs[strategy], steps))
        one, mirrored = (np.array(times[s][1:]) for s in jobs)  # the first traces
        ratio = statistics.median(mirrored / one)
        made = statistics.median(batch_seconds(jobs["one-device"], steps) for _ in range(rounds))
        epoch, lost, count = checkpoint_seconds(make, folder, size)
    step = statistics.median(one)
    ms = [f"{1e3 * value:.1f}" for value in (step, statistics.median(mirrored))]
    strategies = [name, *ms, f"{ratio - 1:+.1%}", f"{min(mirrored / one) - 1:+.1%} to "]
    strategies[-1] += f"{max(mirrored / one) - 1:+.1%}"
    inputs = [name, ms[0], f"{1e3 * made:.2f}", f"{step / made:.0f}x"]
    per = f"{lost / count:.2f}"
    return strategies, inputs, [name, f"{epoch:.0f}", count, per, f"{lost / epoch:.2%}"]


@dataclass
class Gradient:
    """What one weight's gradient takes.

    Attributes:
        numbers: of the weight.
        rows, width: of a sparse gradient, each row with its index; 0 rows where it is dense.
        distinct: rows of it that differ.
    """

    name: str
    numbers: int
    rows: int = 0
    width: int = 0
    distinct: int = 0

    @property
    def dense(self) -> int:
        return 4 * self.numbers

    def sparse(self, rows: int) -> int:
        return rows * (4 * self.width + 8)


def gradients(job: Prepared) -> list[Gradient]:
    """Those of one real step."""
    found, optimizer = [], job.model.optimizer

    def look(pairs):
        for gradient, weight in pairs:
            one = Gradient(weight.path, int(np.prod(weight.shape)))
            if isinstance(gradient, tf.IndexedSlices):
                indices = gradient.indices.numpy()
                one.rows, one.width = len(indices), weight.shape[-1]
                one.distinct = len(np.unique(indices))
            found.append(one)

    apply, optimizer.apply_gradients = optimizer.apply_gradients, look
    try:
        job.model.train_step(next(iter(job.at(Position(), (0, 1)))))
    finally:
        optimizer.apply_gradients = apply
    return found


def ring(N: int) -> float:
    """What a replica sends of each byte that a ring sums over N."""
    return 2 * (N - 1) / N


def traffic(found: list[Gradient]) -> str:
    """The table of bytes, and the number of replicas from which on dense is better."""
    dense = sum(one.dense for one in found if not one.rows)
    [table_of] = [one for one in found if one.rows]
    rows = []
    for N in REPLICAS:
        sent = {
            "all dense": ring(N) * (dense + table_of.dense),
            "rows": ring(N) * dense + (N - 1) * table_of.sparse(table_of.rows),
            "distinct": ring(N) * dense + (N - 1) * table_of.sparse(table_of.distinct),
        }
        rows.append([N, *(f"{value / 1e6:.1f}" for value in sent.values())])
    even = {n: 2 * table_of.dense / table_of.sparse(n) for n in (table_of.rows, table_of.distinct)}
    numbers = sum(one.numbers for one in found)
    header = ["replicas", "all dense, MB", "embedding as rows, MB", "as distinct rows, MB"]
    return f"""
{numbers:,} parameters, of them {table_of.numbers:,} in the embedding of V = {WORDS:,}
words and D = {table_of.width}. One step of a replica (B x T = {table_of.rows:,} tokens,
{table_of.distinct:,} of them distinct) gives a gradient of {4 * numbers / 1e6:.1f} MB when all of
it is dense; the embedding's alone {table_of.dense / 1e6:.1f} MB dense,
{table_of.sparse(table_of.rows) / 1e6:.1f} MB as rows with their indices (`IndexedSlices`). Sent by
each replica in a step, its own batch staying as large:

{table(header, rows)}

A ring sums dense gradients with 2 (N - 1) / N of their bytes, nearly the same for any N; rows of
different words cannot be summed on the way, so all are gathered, N - 1 times a replica's own. Rows
are better below N = 2 x dense / rows, here **{even[table_of.rows]:.0f} replicas**
({even[table_of.distinct]:.0f} if equal words were summed before they are sent), dense beyond. The
rows grow with B x T and not with V, so a larger vocabulary moves this up.
"""


def cost(found: list[Gradient]) -> str:
    """What the bytes take on links that are assumed."""
    dense, rows = sum(one.dense for one in found), []
    for link, speed in LINKS.items():
        for N in (8, 64):
            seconds = ring(N) * dense / speed
            least = seconds * (1 - NOTICED) / NOTICED
            rows.append([link, N, f"{1e3 * seconds:.2f}", f"{1e3 * least:.1f}"])
    header = ["link (assumed)", "GPUs", "all-reduce, ms", f"computing for {NOTICED:.0%}, ms"]
    return f"""
**On 8 and 64 GPUs.** Worked out, not measured: the {dense / 1e6:.1f} MB of dense gradients above,
2 (N - 1) / N of them over the slowest link of the ring, not overlapped with computing and without
latency, which adds 2 (N - 1) messages. The last column is how long a replica's own computing has
to take for this to be {NOTICED:.0%} of the step. The link speeds are assumptions, the makers'
round figures; 64 GPUs are on several machines, so NVLink is then the best case.

{table(header, rows)}
"""


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="of a round")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved, after one that traces")
    parser.add_argument("--size", type=float, default=1.0, help="of the data")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--dry-run", action="store_true", help="print, leave RESULTS.md alone")
    args = parser.parse_args(argv)
    tf.config.set_visible_devices([], "GPU")
    found = [measured(name, args.size, args.steps, args.rounds) for name in args.tasks]
    with tempfile.TemporaryDirectory() as folder:
        sums = gradients(prepared(words, Path(folder), args.size, "one-device"))
    strategies, inputs, saved = (list(rows) for rows in zip(*found, strict=True))
    first = ["task", "one-device, ms a step", "mirrored, ms a step", "overhead", "rounds"]
    second = ["task", "ms a step", "ms a batch", "input is faster"]
    third = ["task", "epoch, s", "checkpoints", "s each", "share of the epoch"]
    body = f"""
Preset "small" of each task on one CPU.

**Strategy of one replica** ("mirrored" with one device against none; median of the ratios of
{args.rounds} interleaved rounds of {args.steps} steps; goal: under 3%)

{table(first, strategies)}

**Input** (batches drawn with nothing else to do; goal: 10 times faster than the step)

{table(second, inputs)}

**Checkpoints** (one epoch as `kerasrnn train` does it; goal: under 1%). Within an epoch they are
{interruption.SECONDS:.0f} s apart and at least {1 / interruption.SHARE:.0f} times what the last one
took; one more ends each epoch, whatever its length.

{table(third, saved)}

**Gradients to sum** (language model over words)
{traffic(sums)}
{cost(sums)}
"""
    print(body)
    if not args.dry_run:
        arguments = " ".join(argv or sys.argv[1:])
        write("Distribution", f"python benchmarks/distribution.py {arguments}".strip(), body)


if __name__ == "__main__":
    main()
