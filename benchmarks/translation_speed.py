"""How fast a translator decodes and an attention decoder trains, beside others in one run.

B sentences, K beams, S source time, T target time, E embedding, H units, D values, V vocabulary.
"""

from __future__ import annotations

import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from results import table, write

from kerasrnn.export.runner import write_cases
from kerasrnn.tasks import run_folder

HERE = Path(__file__).parent
TORCH = "torch_translation.py"
BATCHES = (1, 32)
SIZES = ((64, 16, 16, 256, 256), (32, 32, 32, 256, 512))  # B, S, T, E, H


class Peer:
    """A script of this folder in a process of its own; a call gives its seconds for one task."""

    def __init__(self, python: str, script: str, *arguments):
        pipe = subprocess.PIPE
        command = [python, str(HERE / script), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __call__(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.answer = answer.get("answer")
        return answer["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def timed(function):
    """A function that runs `function` once and gives its seconds."""

    def once():
        begun = time.perf_counter()
        function()
        return time.perf_counter() - begun

    return once


def interleaved(peers: dict, rounds: int) -> dict[str, float]:
    """The median seconds of each peer, taken in turns after one call of each."""
    seconds = {name: [] for name in peers}
    for peer in peers.values():
        peer()
    for _ in range(rounds):
        for name, peer in peers.items():
            seconds[name].append(peer())
    return {name: statistics.median(found) for name, found in seconds.items()}


def decoding(run: str, text: Path, torch_python: str | None, rounds: int) -> None:
    """Sentences per second of Keras, SavedModel, ONNX Runtime and PyTorch, batch 1 and 32."""
    from kerasrnn.export.forms import answer
    from kerasrnn.tasks.exporting import export_run
    from kerasrnn.tasks.search import search_of
    from kerasrnn.tasks.translator.task import Settings

    lines = text.read_text(encoding="utf-8").splitlines()
    model = run_folder.load_model(run)
    search = search_of(run, model, Settings)
    with tempfile.TemporaryDirectory() as folder:
        onnx, saved = export_run(run, Path(folder, "out"), ("onnx", "saved_model"))
        artifacts = {"SavedModel": saved, "ONNX Runtime": onnx}
        keras = functools.partial(answer, model.served(**search))
        rows = [
            decoding_row(
                B,
                lines[: 64 if B > 1 else 16],
                keras,
                artifacts,
                model,
                search,
                torch_python,
                rounds,
            )
            for B in BATCHES
        ]
        same = agreement(keras, artifacts, lines)
    names = list(rows[0])
    body = f"""
Beam {search["rules"].beam}, sentences per second, medians of {rounds} interleaved rounds.

{table(names, [list(row.values()) for row in rows])}

{same}
"""
    command = "python benchmarks/translation.py decoding --run RUN --text test_2016_flickr.en"
    write("Translator: decoding", command, body)


def exported_peer(artifact: Path, name: str, batches: list[np.ndarray], folder) -> Peer:
    """An artifact that answers these batches of its input `name`."""
    file = Path(folder, "batches.npz")
    write_cases(file, [{name: batch} for batch in batches])
    return Peer(sys.executable, "exported_peer.py", artifact, name, file)


def decoding_row(B, lines, keras, artifacts, model, search, torch_python, rounds) -> dict:
    """One row of the table: by batches of B."""
    batches = [np.array(lines[i : i + B], object) for i in range(0, len(lines), B)]
    with tempfile.TemporaryDirectory() as folder:
        peers = {"Keras": timed(lambda: [keras({"source": some}) for some in batches])}
        for name, artifact in artifacts.items():
            peers[name] = exported_peer(artifact, "source", batches, folder)
        if torch_python:
            peers["PyTorch"] = torch_decoder(torch_python, folder, model, search, batches)
        seconds = interleaved(peers, rounds)
        if torch_python:
            check_torch(peers["PyTorch"], keras, batches)
        for peer in list(peers.values())[1:]:
            peer.close()
    speeds = {name: f"{len(lines) / s:.1f}" for name, s in seconds.items()}
    onnx = seconds["ONNX Runtime"]
    ratios = {f"ONNX / {n}": f"{s / onnx:.2f}x" for n, s in seconds.items() if s != onnx}
    return {"batch": B, **speeds, **ratios}


def torch_decoder(python, folder, model, search, batches) -> Peer:
    """PyTorch with the same weights over the same ids; the text parts are not its work."""
    weights = {v.path: v.numpy() for v in model.variables if "float" in str(v.dtype)}
    np.savez(Path(folder, "weights.npz"), **{k.replace("/", "|"): v for k, v in weights.items()})
    ids = [
        [[*row, 3] for row in model.source_tokenizer.tokenize(b.tolist()).to_list()]
        for b in batches
    ]
    rules = search["rules"]
    task = {"batches": ids, "beam": rules.beam, "alpha": rules.length_penalty}
    task |= {"length": search["max_length"], "banned": list(rules.banned)}
    Path(folder, "task.json").write_text(json.dumps(task))
    return Peer(python, TORCH, "decode", folder)


def check_torch(peer, keras, batches) -> None:
    """PyTorch must have found what we find, or its time says nothing."""
    ours = [keras({"source": some})["tokens"][:, 0] for some in batches]
    ours = [[i for i in row if i] for batch in ours for row in batch.tolist()]
    same = sum(a == b for a, b in zip(ours, peer.answer, strict=True))
    if same < 0.95 * len(ours):
        raise RuntimeError(f"PyTorch agrees in {same} of {len(ours)} sentences only")


def agreement(keras, artifacts: dict[str, Path], lines: list[str]) -> str:
    """In how many lines the three write the same text."""
    batches = [np.array(lines[i : i + 32], object) for i in range(0, len(lines), 32)]
    texts = {"Keras": [text for b in batches for text in keras({"source": b})["text"][:, 0]]}
    with tempfile.TemporaryDirectory() as folder:
        for name, artifact in artifacts.items():
            peer = exported_peer(artifact, "source", batches, folder)
            peer()
            peer.close()
            texts[name] = peer.answer
    first, *others = texts.values()
    same = sum(len({*row}) == 1 for row in zip(first, *others, strict=True))
    return f"{', '.join(texts)} write the same text for {same:,} of {len(lines):,} lines."


def attention(torch_python: str | None, rounds: int) -> None:
    """A training step of a Bahdanau GRU decoder: forward, backward, Adam."""
    rows = []
    for size in SIZES:
        peers = {name: attention_peer(name, size) for name in ("keras", "keras+xla", "kerasrnn")}
        if torch_python:
            peers["torch"] = Peer(torch_python, TORCH, "attention", *size)
        seconds = interleaved(peers, rounds)
        if torch_python:
            peers["torch"].close()
        ours = seconds["kerasrnn"]
        ratios = [f"{s / ours:.2f}x" for name, s in seconds.items() if name != "kerasrnn"]
        rows.append([str(size), *(f"{1e3 * s:.0f}" for s in seconds.values()), *ratios])
    names = [*peers, *(f"{name} / kerasrnn" for name in peers if name != "kerasrnn")]
    body = f"""
A GRU with additive attention, one training step (forward, backward, Adam), milliseconds, medians
of {rounds} interleaved rounds. keras: the same cell in `keras.layers.RNN`.

{table(["B, S, T, E, H", *names], rows)}
"""
    write("Attention decoder", "python benchmarks/translation.py attention", body)


def attention_peer(name: str, size):
    """A function that does one step and gives its seconds."""
    import keras
    import tensorflow as tf

    from kerasrnn.attention.cells import BahdanauCell
    from kerasrnn.attention.scores import Additive
    from kerasrnn.cells import GRU, Cell
    from kerasrnn.layers import Recurrent

    B, S, T, E, H = size

    class Bound(Cell):
        """The cell with its memory bound, as `keras.layers.RNN` needs it."""

        def __init__(self, cell):
            super().__init__()
            self.cell, self.memory = cell, None
            self.state_size, self.output_size = cell.state_size, cell.output_size[0]

        def build(self, shape):
            self.cell.build(shape)

        def project(self, x, training=None):
            return self.cell.project(x, training=training)

        def step(self, z, state, linear):
            (y, *_), state = self.cell.step(z, state, linear, self.memory)
            return y, state

    cell = BahdanauCell(GRU(H), Additive(H), 2 * H)
    bound = Bound(cell)
    ours = Recurrent(cell, return_sequences=True)
    layer = ours if name == "kerasrnn" else keras.layers.RNN(bound, return_sequences=True)
    layer.build((None, T, E))
    adam = keras.optimizers.Adam()
    adam.build(layer.trainable_variables)
    x, values = tf.random.normal((B, T, E)), tf.random.normal((B, S, 2 * H))
    target, mask = tf.random.normal((B, T, H)), tf.ones((B, S), tf.bool)

    @tf.function(jit_compile=name.endswith("+xla"), autograph=False)
    def step(x, values, target):
        with tf.GradientTape() as tape:
            tape.watch([x, values])
            memory = cell.attention.memory(values, mask)
            object.__setattr__(bound, "memory", memory)
            constants = {"constants": memory, "training": True} if name == "kerasrnn" else {}
            y = layer(x, **constants)
            loss = tf.reduce_mean((tf.nest.flatten(y)[0] - target) ** 2)
        gradients = tape.gradient(loss, [x, values, *layer.trainable_variables])
        adam.apply_gradients(zip(gradients[2:], layer.trainable_variables, strict=True))
        return loss + 0.0 * sum(tf.reduce_sum(g) for g in gradients[:2])

    return timed(lambda: step(x, values, target).numpy())
