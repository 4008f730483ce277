"""Training and inference of one recurrent layer: this engine, Keras, Keras under XLA, PyTorch.

    python benchmarks/recurrence.py                      all times, about fifteen minutes
    python benchmarks/recurrence.py --memory             peak memory
    python benchmarks/recurrence.py --cells lstm gru --sizes 32,100,128,512 --rounds 15
    python benchmarks/recurrence.py --torch-python /path/to/a/python/with/torch

It rewrites its section of RESULTS.md. PyTorch needs the machine for itself: its threads wait for
each other busily, and any other load makes it many times slower.

A step is forward, mean squared error, backward, Adam. All peers take turns, one step each, round
after round, in one run, so that a change of the machine's load meets all of them; a table gives
medians, and ratios to this engine. `+xla` is a whole step within XLA; without it each library
does as it does by itself. A cell that Keras has no layer for runs there in `keras.layers.RNN`,
and at every other size only.
PyTorch works in a process of its own that waits for its turn. `products alone` is the matrix
products that a step cannot do without, and nothing else: no gates, no loss, no optimizer.

B batch, T time, D input, H units.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from results import table, write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = ("64,50,256,256", "32,100,64,256", "32,100,128,512")
MEMORY_SIZE, MEMORY_CELLS = (32, 400, 128, 512), ("lstm", "gru")
STOCK = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}
PEERS = ("keras", "keras+xla", "kerasrnn", "kerasrnn+xla", "torch", "products alone")
FEWER = ("keras", "kerasrnn", "products alone")  # for the cells that Keras has no layer for
TORCH = r"""
import sys, time, torch
cell, work, *size = sys.argv[1:]
B, T, D, H = map(int, size)
kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "simple_rnn": torch.nn.RNN}[cell]
layer = kind(D, H, batch_first=True)
adam = torch.optim.Adam(layer.parameters())
x, y = torch.randn(B, T, D), torch.randn(B, T, H)
for _ in sys.stdin:
    begun = time.perf_counter()
    if work == "train":
        adam.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(layer(x)[0], y)
        loss.backward()
        adam.step()
        loss.item()
    else:
        with torch.no_grad():
            layer(x)[0].sum().item()
    print(time.perf_counter() - begun, flush=True)
"""


class TorchPeer:
    """PyTorch in a process of its own; a call is one step and its seconds."""

    def __init__(self, python, cell, work, size):
        command = [python, "-c", TORCH, cell, work, *map(str, size)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __call__(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def layer_of(peer, cell, H):
    """The layer that a peer runs for a cell."""
    import keras

    from kerasrnn.cells import CELLS
    from kerasrnn.layers import Recurrent

    if peer.startswith("kerasrnn"):
        return Recurrent(CELLS[cell](H), return_sequences=True)
    if cell in STOCK:
        return getattr(keras.layers, STOCK[cell])(H, return_sequences=True)
    return keras.layers.RNN(CELLS[cell](H), return_sequences=True)


def keras_peer(peer, cell, work, size):
    """A function that does one step and gives its seconds."""
    import keras
    import tensorflow as tf

    B, T, D, H = size
    model = keras.Sequential([keras.Input((T, D)), layer_of(peer, cell, H)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    x, y = tf.random.normal((B, T, D)), tf.random.normal((B, T, H))

    def once(x, y):
        if work == "train":
            return model.train_step((x, y))["loss"]
        return tf.reduce_sum(model(x, training=False))

    # The batch size unknown, as in fit.
    signature = [tf.TensorSpec((None, T, n)) for n in (D, H)]
    step = tf.function(once, input_signature=signature, jit_compile=peer.endswith("+xla"))
    return timer(lambda: step(x, y))


def timer(step):
    """A function that does a step, waits for the number it gives, and returns its seconds."""

    def timed():
        begun = time.perf_counter()
        step().numpy()
        return time.perf_counter() - begun

    return timed


def weight_shapes(cell, size):
    """Shapes of the weights that the states and that the inputs are multiplied with."""
    import tensorflow as tf

    from kerasrnn.cells import CELLS
    from kerasrnn.engine.layout import Layout
    from kerasrnn.engine.tried_step import TriedStep

    B, _, D, H = size
    made = CELLS[cell](H)
    made.build((B, D))
    z = made.project(tf.zeros((2, B, D)))
    products = TriedStep(made, Layout(z, made.initial_state(B), ())).products
    seen = {id(p.weight) for p in products}
    others = [w.shape for w in made.weights if id(w) not in seen]
    inputs = [tuple(s) for s in others if len(s) == 2 and s[0] == D]
    return [tuple(p.select(p.weight.value).shape) for p in products], inputs


def step_flops(cell, work, size):
    """Operations in the matrix products of a step; nothing goes back to the data."""
    recurrent, inputs = [sum(n * m for n, m in found) for found in weight_shapes(cell, size)]
    times = (3, 2) if work == "train" else (1, 1)
    return 2 * size[0] * size[1] * (times[0] * recurrent + times[1] * inputs)


def products_peer(cell, work, size):
    """A function that does the matrix products of a step, nothing else, and gives its seconds."""
    import keras
    import tensorflow as tf

    from kerasrnn.engine.backward import Matrix

    (B, T, *_), train = size, work == "train"
    recurrent, inputs = weight_shapes(cell, size)
    orthogonal = keras.initializers.Orthogonal(seed=1)
    weights = [tf.constant(orthogonal(shape)) for shape in recurrent]
    rows = {n: tf.random.normal((T * B, n)) for shape in recurrent + inputs for n in shape}

    @tf.function(jit_compile=True)
    def steps(weights):
        pairs = [(Matrix(W), Matrix(tf.transpose(W))) for W in weights]

        def step(t, *hs):
            ys = [W.times(h)[0] for (W, _), h in zip(pairs, hs, strict=True)]
            if train:
                back = [V.times(y)[0] for (_, V), y in zip(pairs, ys, strict=True)]
            else:  # h goes on, but the loop may not do without y
                back = [h + 1e-9 * y[:, :1] for h, y in zip(hs, ys, strict=True)]
            return t + 1, *back

        hs = [tf.random.normal((B, n)) for n, _ in recurrent]
        return tf.while_loop(lambda t, *_: t < T, step, (0, *hs), maximum_iterations=T)[1:]

    @tf.function
    def once():
        found = [*steps(weights), *(tf.matmul(rows[n], tf.ones((n, m))) for n, m in inputs)]
        for n, m in (recurrent + inputs) * train:
            found.append(tf.matmul(rows[n], rows[m], transpose_a=True))
        return tf.add_n([product[0, 0] for product in found])

    return timer(once)


def measure(cell, work, size, peers, rounds, torch_python):
    """{peer: (median seconds, seconds of the first step)}."""
    steps = {}
    for peer in peers:
        if peer == "products alone":
            steps[peer] = products_peer(cell, work, size)
        elif peer != "torch":
            steps[peer] = keras_peer(peer, cell, work, size)
        elif torch_python:
            steps[peer] = TorchPeer(torch_python, cell, work, size)
    first = {peer: step() for peer, step in steps.items()}
    for step in steps.values():
        step()
    taken = {peer: [] for peer in steps}
    for _ in range(rounds):
        for peer, step in steps.items():
            taken[peer].append(step())
    if "torch" in steps:
        steps["torch"].close()
    return {peer: (statistics.median(taken[peer]), first[peer]) for peer in steps}


def peak_flops(rounds=9):
    """What this machine's matrix product reaches, operations a second."""
    import tensorflow as tf

    n = 2048
    a = tf.random.normal((n, n))
    product = tf.function(lambda a: tf.reduce_sum(tf.matmul(a, a)))
    product(a)
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        product(a).numpy()
        taken.append(time.perf_counter() - begun)
    return 2 * n**3 / min(taken)


def memory(cell, peer, size):
    """Peak MiB of a process that trains a little, above one that has only begun."""
    command = [sys.executable, __file__, "--child", cell, peer, *map(str, size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(cell, peer, *size):
    """What `memory` runs: prints the MiB that three steps added at their peak."""
    size = tuple(map(int, size))
    keras_peer(peer, cell, "train", (1, 2, size[2], 2))()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, at what is held now
    before = resident("VmRSS")
    step = keras_peer(peer, cell, "train", size)
    for _ in range(3):
        step()
    print(resident("VmHWM") - before)


def resident(name):
    """MiB of this process: VmRSS now, VmHWM at most (Linux)."""
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def columns(peers):
    """The header of a table."""
    ratios = [f"{p} / ours" for p in peers if p not in ("kerasrnn", "products alone")]
    firsts = [f"first step, {p}, s" for p in ("keras+xla", "kerasrnn") if p in peers]
    return ["cell", *peers, *ratios, "keras / products", *firsts, "share of peak"]


def row(cell, peers, found, share):
    """A line of the table: milliseconds of every peer, ratios to the engine, first steps."""
    seconds = {peer: found[peer][0] for peer in found}
    cells = [f"{seconds[p] * 1e3:.1f}" if p in found else "" for p in peers]
    others = [p for p in peers if p not in ("kerasrnn", "products alone")]
    cells += [f"{seconds[p] / seconds['kerasrnn']:.2f}" if p in found else "" for p in others]
    cells.append(f"{seconds['keras'] / seconds['products alone']:.2f}")
    cells += [f"{found[p][1]:.1f}" for p in ("keras+xla", "kerasrnn") if p in peers]
    return [cell, *cells, f"{share:.0%}"]


def speed_tables(args, cells, peak):
    """The Markdown of every table of times, one after another as they are done."""
    stock, others = [c for c in cells if c in STOCK], [c for c in cells if c not in STOCK]
    runs = []
    for k, size in enumerate(args.sizes):
        groups = [(stock, PEERS), (others if k % 2 == 0 else [], FEWER)]
        runs += [(size, work, *g) for work in args.work for g in groups if g[0]]
    for text, work, names, peers in runs:
        size, rows = tuple(map(int, text.split(","))), []
        peers = [p for p in peers if p != "torch" or args.torch_python]
        for cell in names:
            # These two add the input to the state: as wide as that.
            sized = (*size[:2], size[3], size[3]) if cell in ("mut1", "mut2") else size
            found = measure(cell, work, sized, peers, args.rounds, args.torch_python)
            share = step_flops(cell, work, sized) / found["kerasrnn"][0] / peak
            rows.append(row(cell, peers, found, share))
            print(work, size, *rows[-1], file=sys.stderr, flush=True)
        title = f"**{work}**, B, T, D, H = {', '.join(map(str, size))}"
        yield f"{title}\n\n{table(columns(peers), rows)}\n"


def memory_table(cells):
    """The Markdown of the table of peak memory."""
    peers, rows = ("keras", "keras+xla", "kerasrnn"), []
    for cell in cells:
        found = [memory(cell, peer, MEMORY_SIZE) for peer in peers]
        ratios = [f"{found[-1] / other:.2f}" for other in found[:-1]]
        rows.append([cell, *(f"{n:.0f}" for n in found), *ratios])
    header = ["cell", *peers, *(f"ours / {peer}" for peer in peers[:-1])]
    title = f"**peak memory** that training adds, MiB, B, T, D, H = {MEMORY_SIZE}"
    return f"{title}\n\n{table(header, rows)}\n"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=None, help="names from CELLS")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="B,T,D,H")
    parser.add_argument("--work", nargs="+", default=("train", "infer"), help="train, infer")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--torch-python", help="a Python that can import torch")
    parser.add_argument("--memory", action="store_true", help="peak memory, and nothing else")
    parser.add_argument("--dry-run", action="store_true", help="print, leave RESULTS.md alone")
    args = parser.parse_args(argv)
    from kerasrnn.cells import CELLS

    cells = args.cells or [c for c in CELLS if not c.startswith(("running", "auto", "expo"))]
    if args.memory:
        body, title = memory_table([c for c in MEMORY_CELLS if c in cells]), "peak memory"
    else:
        body, title = times(args, cells), "times"
    print(body)
    if not args.dry_run:
        arguments = " ".join(argv or sys.argv[1:])
        command = f"python benchmarks/recurrence.py {arguments}".strip()
        write(f"One recurrent layer: {title}", command, body)


def times(args, cells):
    """The Markdown of all times."""
    peak = peak_flops()
    body = f"Matrix product: {peak / 1e9:.0f} GF/s. Milliseconds a step, medians of "
    body += f"{args.rounds}; a ratio above 1 means that this engine is faster; keras / products "
    body += "is the ratio that an engine would have whose every other work is free.\n\n"
    body += "\n".join(speed_tables(args, cells, peak))
    return body


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
