"""Recurrent layers in ONNX Runtime: our export, Keras's own, the SavedModel, PyTorch's export.

    python benchmarks/export.py [--torch-python PYTHON] [--rounds 7]

Two layers each, inputs of 128 features, rows padded on the right to the longest, which a mask
hides. It rewrites its section of RESULTS.md; PYTHON is one with torch and onnx installed.

B batch, T time, H units.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from results import table, write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

D, LEAST = 128, 0.05  # features; seconds that a timing takes at least
PAUSE = 0.05  # seconds in which the threads of the peer before, which spin, come to rest
KINDS = ("LSTM", "GRU", "SimpleRNN", "bidirectional LSTM")
WIDTHS, SIZES = (128, 512), ((1, 20), (4, 50), (32, 200))  # H; B, T
PEERS = ("ours", "Keras", "SavedModel", "PyTorch")


def stock_model(kind: str, H: int):
    """A Keras model of two stock layers."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    name = kind.rpartition(" ")[2]

    def layer():
        made = getattr(layers, name)(H, return_sequences=True)
        return layers.Bidirectional(made) if kind.startswith("bi") else made

    return keras.Sequential([keras.Input([None, D], name="x"), layers.Masking(), layer(), layer()])


def batch(B: int, T: int) -> np.ndarray:
    """Random rows; the lengths of all but the first are between T / 2 and T."""
    random = np.random.default_rng(B)
    x = random.normal(size=(B, T, D)).astype("float32")
    for row in x[1:]:
        row[random.integers(T // 2, T) :] = 0
    return x


def session_of(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def peers_of(kind: str, H: int, folder: Path, torch_python: str | None) -> dict:
    """x -> what each peer makes of it, by name; and the sizes of the two Keras files in KiB."""
    import tensorflow as tf

    from kerasrnn.export import onnx

    model, name = stock_model(kind, H), f"{kind.replace(' ', '-')}-{H}"
    files = {peer: folder / f"{name}-{peer}.onnx" for peer in ("ours", "Keras", "PyTorch")}
    onnx(model, files["ours"])
    model.export(files["Keras"], format="onnx", verbose=False)
    model.export(folder / name, verbose=False)
    saved = tf.saved_model.load(str(folder / name))
    ours, keras = (session_of(files[peer]) for peer in ("ours", "Keras"))
    found = {
        "ours": lambda x: ours.run(None, {"x": x})[0],
        "Keras": lambda x: keras.run(None, {keras.get_inputs()[0].name: x})[0],
        "SavedModel": lambda x: saved.serve(tf.constant(x)).numpy(),
    }
    if torch_python:
        script = Path(__file__).with_name("torch_export.py")
        subprocess.run([torch_python, script, kind, str(H), files["PyTorch"]], check=True)
        torch = session_of(files["PyTorch"])

        def run(x):
            lengths = (np.abs(x).sum(-1) > 0).sum(-1)
            return torch.run(None, {"x": x, "lengths": lengths})[0]

        found["PyTorch"] = run
    return found


def interleaved(peers: dict, x: np.ndarray, rounds: int) -> dict[str, float]:
    """The median seconds of a call of each, in turns."""
    calls, seconds = {}, {name: [] for name in peers}
    for name, peer in peers.items():
        peer(x)
        begun = time.perf_counter()
        peer(x)
        calls[name] = max(1, math.ceil(LEAST / (time.perf_counter() - begun)))
    for _ in range(rounds):
        for name, peer in peers.items():
            time.sleep(PAUSE)
            peer(x)
            begun = time.perf_counter()
            for _ in range(calls[name]):
                peer(x)
            seconds[name].append((time.perf_counter() - begun) / calls[name])
    return {name: float(np.median(found)) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rows, worst = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            for H in WIDTHS:
                peers = peers_of(kind, H, Path(folder), args.torch_python)
                for B, T in SIZES:
                    x = batch(B, T)
                    last = np.abs(peers["ours"](x) - peers["SavedModel"](x)).max()
                    worst = max(worst, float(last))
                    seconds = interleaved(peers, x, args.rounds)
                    ratios = [f"{s / seconds['ours']:.2f}x" for s in list(seconds.values())[1:]]
                    rows.append([kind, H, B, T, f"{1e3 * seconds['ours']:.2f}", *ratios])
                    print(*rows[-1], flush=True)
    names = [name for name in PEERS[1:] if name in seconds]
    header = ["layers", "H", "B", "T", "ours, ms", *(f"{name} / ours" for name in names)]
    body = f"""
Two layers, {D} features, rows of different lengths under a mask; medians of {args.rounds}
interleaved rounds. "Keras" is `keras.Model.export(format="onnx")` of the same model, "SavedModel"
its `export()`, "PyTorch" `torch.onnx.export` of two layers over packed sequences (with a bias more
than Keras has); all but the SavedModel run in ONNX Runtime. Outputs differ from the SavedModel's
by {worst:.1g} at most.

{table(header, rows)}
"""
    command = "python benchmarks/export.py" + " --torch-python PYTHON" * bool(args.torch_python)
    write("Export: recurrent layers", command, body)


if __name__ == "__main__":
    main()
