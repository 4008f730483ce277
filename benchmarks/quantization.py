"""Quantized exports of trained runs: size, quality and speed beside the full file."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from results import table, write

from export import interleaved, session_of, stock_model

KINDS = ("int8", "fp16")
BATCHES = (1, 32)
STEPS = 50  # tokens that a language model writes
LAYERS = ("LSTM", "GRU", "bidirectional LSTM", "SimpleRNN")


def inputs_of(task: str, run: Path, rows: int) -> dict[str, np.ndarray]:
    """A batch of what the run was validated on."""
    config = json.loads((run / "config.json").read_text())
    if task == "translator":
        lines = Path(config["job"]["valid_source"]).read_text().splitlines()
        return {"source": np.array(lines[:rows], object)}
    if task == "captioner":
        from kerasrnn.pipelines.images import read_image

        files = sorted(Path(config["job"]["images"]).iterdir())[-rows:]
        return {"image": np.stack([read_image(file) for file in files])}
    values = {"max_length": STEPS, "temperature": 0.8, "top_k": 0, "top_p": 1.0, "seed": 1}
    kinds = {"temperature": np.float32, "top_p": np.float32}
    scalars = {name: np.array(v, kinds.get(name, np.int32)) for name, v in values.items()}
    return {"prompt": np.array(["The "] * rows, object), **scalars}


def of_run(run: Path, rounds: int, folder: Path) -> list[list]:
    """A row for each kind."""
    from kerasrnn.tasks.exporting import export_run, in_words, measured

    written = export_run(run, folder / run.name, ["onnx"], quantized=KINDS)
    figures = measured(written)
    task = json.loads((run / "config.json").read_text())["task"]
    sessions = {path.name: session_of(path) for path in written}
    peers = {name: lambda x, s=s: s.run(["text"], x) for name, s in sessions.items()}
    seconds = [interleaved(peers, inputs_of(task, run, rows), rounds) for rows in BATCHES]
    rows = []
    for path in written[1:]:
        speeds = [f"{s['model.onnx'] / s[path.name]:.2f}x" for s in seconds]
        said = in_words(figures[str(path)]).split("; ")[1]
        share = figures[str(path)]["bytes"] / figures[str(path)]["full_bytes"]
        rows.append([task, path.name.split(".")[1], f"{share:.1%}", said, *speeds])
        print(*rows[-1], flush=True)
    return rows


def of_layers(kind: str, rounds: int, folder: Path) -> list[list]:
    """Two layers of 512, T 50, by `kerasrnn.export.quantize`."""
    from export import batch
    from kerasrnn.export import onnx, quantize

    full = folder / "full.onnx"
    onnx(stock_model(kind, 512), full)
    files = {"full": full, **{k: quantize(full, folder / f"{k}.onnx", k) for k in KINDS}}
    sessions = {name: session_of(path) for name, path in files.items()}
    peers = {name: lambda x, s=s: s.run(None, {"x": x}) for name, s in sessions.items()}
    seconds = [interleaved(peers, batch(rows, 50), rounds) for rows in BATCHES]
    rows = []
    for name in KINDS:
        share = files[name].stat().st_size / full.stat().st_size
        speeds = [f"{s['full'] / s[name]:.2f}x" for s in seconds]
        rows.append([f"2 layers, {kind}", name, f"{share:.1%}", "", *speeds])
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for run in args.runs:
            rows += of_run(run, args.rounds, Path(folder))
        for kind in LAYERS:
            rows += of_layers(kind, args.rounds, Path(folder))
    header = ["model", "kind", "of the full file", "full -> quantized"]
    header += [f"full / quantized, batch {rows}" for rows in BATCHES]
    body = f"""
Full and quantized files in ONNX Runtime, quality on what each run was validated on, times as
medians of {args.rounds} interleaved rounds; a language model writes {STEPS} tokens; layers have 512
units, 50 steps. More than 1x is faster.

{table(header, rows)}
"""
    write("Quantized exports", "python benchmarks/quantization.py RUN …", body)


if __name__ == "__main__":
    main()
