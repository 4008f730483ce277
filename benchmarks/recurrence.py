"""Training and inference of one recurrent layer: this engine, Keras, Keras under XLA, PyTorch.

    python benchmarks/recurrence.py                      every cell at every size, a few minutes
    python benchmarks/recurrence.py --cells lstm gru --sizes 32,100,128,512 --rounds 15
    python benchmarks/recurrence.py --torch-python /path/to/a/python/with/torch

It rewrites its section of RESULTS.md. PyTorch needs the machine for itself: its threads wait for
each other busily, and any other load makes it many times slower.

A step is forward, mean squared error, backward, Adam. All peers take turns, one step each, round
after round, in one run, so that a change of the machine's load meets all of them; a table gives
medians, and ratios to this engine. A cell that Keras has no layer for runs there in
`keras.layers.RNN`. PyTorch works in a process of its own that waits for its turn.

B batch, T time, D input, H units.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

from results import table, write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = ("64,50,256,256", "32,100,64,256", "32,100,128,512")
STOCK = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}
PEERS = ("keras", "keras+xla", "kerasrnn", "torch")
COLUMNS = ["cell", *PEERS, "keras / ours", "keras+xla / ours", "torch / ours"]
COLUMNS += ["first step, keras+xla, s", "first step, ours, s", "ours, share of peak"]
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

    if peer == "kerasrnn":
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
    step = tf.function(once, input_signature=signature, jit_compile=peer == "keras+xla")

    def timed():
        begun = time.perf_counter()
        step(x, y).numpy()
        return time.perf_counter() - begun

    return timed


def measure(cell, work, size, peers, rounds, torch_python):
    """{peer: (median seconds, seconds of the first step)}."""
    steps = {}
    for peer in peers:
        if peer != "torch":
            steps[peer] = keras_peer(peer, cell, work, size)
        elif torch_python and cell in STOCK:
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
    return 2 * n**3 / statistics.median(taken)


def step_flops(cell, size):
    """Operations in the matrix products of a training step: forward, weights, states."""
    from kerasrnn.cells import CELLS

    B, T, D, H = size
    made = CELLS[cell](H)
    made.build((B, D))
    sizes = {w.name: w.shape[0] * w.shape[1] for w in made.weights if len(w.shape) == 2}
    kernel = sizes.pop("kernel", 0)  # nothing goes back to the data
    return 2 * B * T * (2 * kernel + 3 * sum(n for n in sizes.values() if n >= H * H))


def memory(cell, peer, size):
    """Peak MiB of a process that trains a little, above one that has only begun."""
    command = [sys.executable, __file__, "--child", cell, peer, *map(str, size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(cell, peer, *size):
    """What `memory` runs: prints the MiB that five steps added to the peak."""
    size = tuple(map(int, size))
    keras_peer(peer, cell, "train", (1, 2, size[2], 2))()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = keras_peer(peer, cell, "train", size)
    for _ in range(5):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def row(cell, found, share):
    """A line of the table: milliseconds of every peer, ratios to the engine."""
    ours = found["kerasrnn"][0]
    others = [p for p in PEERS if p != "kerasrnn"]
    cells = [f"{found[p][0] * 1e3:.1f}" if p in found else "" for p in PEERS]
    cells += [f"{found[p][0] / ours:.2f}" if p in found else "" for p in others]
    cells += [f"{found[p][1]:.1f}" if p in found else "" for p in ("keras+xla", "kerasrnn")]
    return [cell, *cells, share]


def tables(args, cells, peak):
    """The Markdown of every table, one after another as they are done."""
    for size in args.sizes:
        size = tuple(map(int, size.split(",")))
        for work in args.work:
            rows = []
            for cell in cells:
                sized = (*size[:2], size[3], size[3]) if cell in ("mut1", "mut2") else size
                found = measure(cell, work, sized, PEERS, args.rounds, args.torch_python)
                rate = step_flops(cell, sized) / found["kerasrnn"][0] / peak
                rows.append(row(cell, found, f"{rate:.0%}" if work == "train" else ""))
                print(work, size, *rows[-1], file=sys.stderr, flush=True)
            title = f"**{work}**, B, T, D, H = {', '.join(map(str, size))}"
            yield f"{title}\n\n{table(COLUMNS, rows)}\n"
        if args.memory:
            rows = [[c, *(f"{memory(c, p, size):.0f}" for p in PEERS[:3])] for c in cells]
            yield f"Peak MiB that training adds\n\n{table(['cell', *PEERS[:3]], rows)}\n"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", default=None, help="names from CELLS")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="B,T,D,H")
    parser.add_argument("--work", nargs="+", default=("train", "infer"), help="train, infer")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--torch-python", help="a Python that can import torch")
    parser.add_argument("--memory", action="store_true", help="peak memory too")
    parser.add_argument("--dry-run", action="store_true", help="print, leave RESULTS.md alone")
    args = parser.parse_args(argv)
    from kerasrnn.cells import CELLS

    cells = args.cells or [c for c in CELLS if not c.startswith(("running", "auto", "expo"))]
    peak = peak_flops()
    body = f"Matrix product: {peak / 1e9:.0f} GF/s. Milliseconds a step, medians of "
    body += f"{args.rounds}; a ratio above 1 means that this engine is faster.\n\n"
    body += "\n".join(tables(args, cells, peak))
    print(body)
    if not args.dry_run:
        arguments = " ".join(argv or sys.argv[1:])
        write("One recurrent layer", f"python benchmarks/recurrence.py {arguments}".strip(), body)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
