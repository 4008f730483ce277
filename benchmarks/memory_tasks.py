"""How far back a cell remembers: the adding problem at 600 steps, and copy memory.

    python benchmarks/memory_tasks.py                       both tasks, a few minutes each
    python benchmarks/memory_tasks.py --tasks adding --cells gru --minutes 2

Both tasks as in Bai, Kolter and Koltun 2018, "An empirical evaluation of generic convolutional
and recurrent networks for sequence modeling", section 4 and table 1, whose figures stand beside
ours. A cell trains until it has solved its task or its time is over. It rewrites its section of
RESULTS.md.

B batch, T time.
"""

import argparse
import os
import sys
import time

import numpy as np
from results import table, write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

UNITS, B, STEPS = 64, 50, 100  # steps from one look at fresh sequences to the next
SYMBOLS, KEPT = 10, 10  # copy memory: 1 to 8 to be kept, 0 blank, 9 asks for them
# Bai et al. 2018, table 1: the loss that each cell ends with
PAPER = {
    "adding": {"lstm": "0.164", "gru": "5.3e-5", "simple_rnn": "0.177"},
    "copy": {"lstm": "0.0204", "gru": "0.0197", "simple_rnn": "0.0202"},
}
HEADER = ["cell", "loss", "solved after s", "sequences", "ms a step", "Bai et al. 2018"]


def adding(rng, rows, T):
    """Numbers and two marks [rows, T, 2]; the sum of the two marked numbers [rows, 1]."""
    numbers, marks = rng.uniform(size=(rows, T)), np.zeros((rows, T))
    first, second = rng.integers(T // 2, size=rows), rng.integers(T // 2, T, size=rows)
    marks[np.arange(rows), first] = marks[np.arange(rows), second] = 1
    x = np.stack([numbers, marks], -1).astype("float32")
    return x, (numbers * marks).sum(1, keepdims=True).astype("float32")


def copy(rng, rows, T):
    """Ten symbols, T blanks, ten times "now" [rows, T + 20, 10]; the ten symbols at the end."""
    symbols = rng.integers(1, SYMBOLS - 1, size=(rows, KEPT))
    x, y = np.zeros((2, rows, T + 2 * KEPT), int)
    x[:, :KEPT], y[:, -KEPT:] = symbols, symbols
    x[:, -KEPT - 1 :] = SYMBOLS - 1
    return np.eye(SYMBOLS, dtype="float32")[x], y


def model_of(task, cell, T, rate):
    """A compiled model of one recurrent layer."""
    import keras

    from kerasrnn.cells import CELLS
    from kerasrnn.layers import Recurrent

    keras.utils.set_random_seed(1)
    features, outputs = (2, 1) if task == "adding" else (SYMBOLS, SYMBOLS)
    length = T if task == "adding" else T + 2 * KEPT
    loss = "mse" if task == "adding" else keras.losses.SparseCategoricalCrossentropy(True)
    layer = Recurrent(CELLS[cell](UNITS), return_sequences=task == "copy")
    model = keras.Sequential([keras.Input((length, features)), layer, keras.layers.Dense(outputs)])
    spread_gates(layer, length)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss)
    return model


def spread_gates(layer, longest):
    """Gates that remember from 1 to `longest` steps: forget bias log u, u uniform, and the input
    gate's against it (chrono initialisation, Tallec and Ollivier 2018). No gates, no change."""
    slow = np.log(np.random.default_rng(2).uniform(1, longest - 1, UNITS)).astype("float32")
    zeros = np.zeros_like(slow)
    if type(layer.cell).__name__ == "LSTM":
        layer.cell.bias.assign(np.concatenate([-slow, slow, zeros, zeros]))
    if type(layer.cell).__name__ == "GRU":
        gates = np.concatenate([slow, zeros, zeros])
        layer.cell.bias.assign(np.stack([gates, np.zeros_like(gates)]))


def guess(task, T):
    """The loss of knowing nothing: a constant 1; blanks, then any of the eight symbols."""
    return 1 / 6 if task == "adding" else KEPT * np.log(SYMBOLS - 2) / (T + 2 * KEPT)


def train(task, cell, T, minutes, rate):
    """A row of the table. Solved is a loss of a tenth of the one of knowing nothing."""
    make = {"adding": adding, "copy": copy}[task]
    rng, model = np.random.default_rng(0), model_of(task, cell, T, rate)
    held = make(np.random.default_rng(1), 500, T)
    model.train_on_batch(*make(rng, B, T))
    begun, steps, loss, training = time.perf_counter(), 0, np.inf, 0.0
    while loss > guess(task, T) / 10 and time.perf_counter() - begun < 60 * minutes:
        batches = [make(rng, B, T) for _ in range(STEPS)]
        started = time.perf_counter()
        for batch in batches:
            model.train_on_batch(*batch)
        training, steps = training + time.perf_counter() - started, steps + STEPS
        loss = model.evaluate(*held, batch_size=100, verbose=0)
        print(task, cell, steps, f"{loss:.5f}", file=sys.stderr, flush=True)
    solved = f"{time.perf_counter() - begun:.0f}" if loss <= guess(task, T) / 10 else "no"
    paced = f"{training / steps * 1e3:.0f}"
    return [cell, f"{loss:.2g}", solved, f"{steps * B:,}", paced, PAPER[task].get(cell, "")]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=sorted(PAPER), default=sorted(PAPER))
    parser.add_argument("--cells", nargs="+", default=["gru", "lstm", "simple_rnn"])
    parser.add_argument("--steps", type=int, help="T; by default 600 for adding, 30 for copy")
    parser.add_argument("--minutes", type=float, default=5.0, help="at most, for each cell")
    parser.add_argument("--rate", type=float, default=0.002, help="of Adam")
    parser.add_argument("--dry-run", action="store_true", help="print, leave RESULTS.md alone")
    args = parser.parse_args(argv)
    about = f"{UNITS} units, batches of {B}, Adam at {args.rate}, gradients clipped to norm 1, "
    about += "gates that remember from one step to all of them to begin with (chrono), at "
    about += f"most {args.minutes:g} minutes a cell; loss on 500 sequences of their own. "
    for task in args.tasks:
        T = args.steps or {"adding": 600, "copy": 30}[task]
        rows = [train(task, cell, T, args.minutes, args.rate) for cell in args.cells]
        known = f"T = {T}; knowing nothing gives {guess(task, T):.3f}; solved is a tenth of it. "
        paper = "The paper's is at 600 steps too." if task == "adding" else "The paper's: 1000."
        body = f"{about}{known}{paper}\n\n{table(HEADER, rows)}\n"
        print(body)
        if not args.dry_run:
            arguments = " ".join(argv or sys.argv[1:])
            command = f"python benchmarks/memory_tasks.py {arguments}".strip()
            write(f"Memory: {task}", command, body)


if __name__ == "__main__":
    main()
