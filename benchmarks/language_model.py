"""The language model's numbers: validation loss on tinyshakespeare, memory on a 2 GB text.

    python benchmarks/language_model.py shakespeare --text tinyshakespeare.txt [--out RUN]
    python benchmarks/language_model.py memory [--gigabytes 2] [--seconds 60]

Both run the command line in a process of its own and rewrite their section of RESULTS.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from results import table, write

from kerasrnn.training.checkpoints import read_progress

CLI = [sys.executable, "-m", "kerasrnn.cli"]
HEADER = ["epoch", "training nats (dropout on)", "validation nats", "tokens/s", "minutes so far"]
NANOGPT = 1.4697  # README of nanoGPT: its 10-million-parameter Transformer, on a GPU


def shakespeare(text: Path, out: Path) -> None:
    """Train the `shakespeare` preset in `out`, unless it is there already, and report it."""
    progress = read_progress(out)
    if progress is None or not progress.finished:
        train = [*CLI, "train", "lm", "--text", text, "--out", out, "--preset", "shakespeare"]
        subprocess.run([str(part) for part in train], check=True)
    report_shakespeare(out)


def report_shakespeare(out: Path) -> None:
    """Evaluate a run of the `shakespeare` preset and write the table of its epochs."""
    evaluate = [*CLI, "evaluate", str(out), "--json"]
    figures = json.loads(subprocess.run(evaluate, check=True, capture_output=True).stdout)
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    settings = json.loads((out / "config.json").read_text())["settings"]
    batch = settings["batch_size"] * settings["window"]
    ids = (out / "ids.bin").stat().st_size  # one byte an id
    tokens = int(ids * (1 - settings["valid_share"])) // batch * batch
    shown, minutes = [], 0.0
    for row in rows:
        speed = float(row["tokens_per_second"])
        minutes += tokens / speed / 60
        nats = [f"{float(row[name]):.4f}" for name in ("nats", "val_nats")]
        shown.append([row["epoch"], *nats, f"{speed:,.0f}", f"{minutes:.1f}"])
    body = f"""
`kerasrnn train lm --text tinyshakespeare.txt --out RUN --preset shakespeare`, the last 10% of the
text by position for validation: **{figures["nats"]:.4f} nats per character**
({figures["bits_per_character"]:.4f} bits, perplexity {figures["perplexity"]:.3f}) over
{figures["tokens"]:,} characters, `kerasrnn evaluate RUN`, after {minutes:.1f} minutes of training.
nanoGPT's README has {NANOGPT} for a 10-million-parameter Transformer trained on a GPU.

{settings["layers"]} {settings["cell"]} layers of {settings["units"]}, {settings["epochs"]} epochs,
batch {settings["batch_size"]}, window {settings["window"]}, dropout {settings["dropout"]}.

{table(HEADER, shown)}
"""
    command = "python benchmarks/language_model.py shakespeare --text tinyshakespeare.txt"
    write("Language model: tinyshakespeare", command, body)


def write_large(path: Path, gigabytes: float) -> None:
    """A text of that size from Python's help topics, the words of each copy in another order."""
    import random
    from pydoc_data.topics import topics

    words = " ".join(topics.values()).split(" ")
    choose = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < gigabytes * 1e9:
            choose.shuffle(words)
            file.write(" ".join(words) + "\n")


def peak_memory(command: list[str], seconds: float) -> tuple[float, float, str]:
    """(peak resident GB, seconds before the first batch, end of stderr) of a training.

    It is stopped with Ctrl-C after `seconds` of training.
    """
    begin, started, before, peak = time.perf_counter(), None, 0.0, 0
    run = Path(command[command.index("--out") + 1])
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            break
        if started is None and (run / "ids.bin").exists():
            started = time.perf_counter()
            before = started - begin
        if started is not None and time.perf_counter() - started > seconds:
            process.send_signal(signal.SIGINT)
            started = float("inf")
        time.sleep(0.05)
    return peak / 1e9, before, process.stderr.read()[-300:]


def memory(gigabytes: float, seconds: float) -> None:
    """Train on a large text for a while; report the peak of resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "large.txt")
        write_large(text, gigabytes)
        train = [*CLI, "train", "lm", "--text", str(text), "--out", str(Path(folder, "run"))]
        peak, before, said = peak_memory([*train, "--preset", "small"], seconds)
        size = text.stat().st_size / 1e9
    if "the same command goes on" not in said:
        raise RuntimeError(f"training did not stop as asked: {said}")
    ending = said.strip().splitlines()[-1].replace(folder, "")
    body = f"""
`kerasrnn train lm --text large.txt --out RUN --preset small` on {size:.2f} GB of text, stopped
with Ctrl-C after {seconds:.0f} s of training: **peak resident memory {peak:.2f} GB**, sampled
every 50 ms. Reading, vocabulary and ids took {before:.0f} s. It said: "{ending}"
"""
    command = f"python benchmarks/language_model.py memory --gigabytes {gigabytes:g}"
    write("Language model: memory", command, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("shakespeare")
    first.add_argument("--text", type=Path, required=True)
    first.add_argument("--out", type=Path)
    second = commands.add_parser("memory")
    second.add_argument("--gigabytes", type=float, default=2.0)
    second.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    if args.command == "memory":
        memory(args.gigabytes, args.seconds)
    elif args.out:
        shakespeare(args.text, args.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            shakespeare(args.text, Path(folder, "run"))


if __name__ == "__main__":
    main()
