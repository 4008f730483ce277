"""Random inputs through Keras, SavedModel and ONNX Runtime: the same answers, memory that stays.

Each runtime answers all of a model's inputs in one process of its own; the exports' processes
import nothing of ours. Models are small and untrained.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib.util
import os
import pickle
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
from results import table, write

MODELS = [
    *(f"{task} {level}" for task in ("translator", "lm") for level in ("char", "word", "subword")),
    "captioner",
]
RUNTIMES = ("keras", "saved_model", "onnx")
TEXT = "A cat sat. The cats, it's said, sat on the mat;\n(that) was that! Don't go on.\n" * 20
ROWS = 40  # inputs at once
CONTROLS = [*map(chr, range(32)), "\x7f", *map(chr, range(0x80, 0xA0))]
MARKS = [chr(c) for c in range(0x300, 0x370)]
RIGHT = [
    *map(chr, range(0x5D0, 0x5EB)),
    *map(chr, range(0x620, 0x64B)),
    *"\u200f\u202b\u202e\u2067",
]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇫🇷", "1️⃣", "🧑‍🚀", "\u200d", "\ufe0f"]
SPACES = ["", " ", "\t", "\n", "\r\n", "\u3000", "\u2028", "\xa0", "\u200b", "\ufeff", "\x85"]
SCALARS = {
    "max_length": [0, 1, 5, 12],
    "temperature": [0.0, 0.0, 1e-45, 1e-30, 1e-3, 0.7, 1, 50, 1e30],
    "top_k": [0, 0, 1, 3, 10**6, 2**31 - 1],
    "top_p": [0.0, 1e-9, 0.3, 0.9, 1, 1],
    "seed": [0, 1, 77, 2**31 - 1],
}
SPECIAL = ["\0", "a\0b", "\ufffd", "<pad>", "</s>", "▁", "\U0010ffff", "\ufffe", "\ufdd0", "\ue000"]


# --- what goes in ---


def anything(random, count: int) -> str:
    """Of all of Unicode but surrogates: unassigned and noncharacters too."""
    points = random.integers(0, 0x110000 - 0x800, count)
    return "".join(chr(p if p < 0xD800 else p + 0x800) for p in points.tolist())


def one_text(random, known: list[str]) -> str:
    """A string of a random kind."""
    count = int(random.integers(0, 25))
    pools = [known, CONTROLS, RIGHT, EMOJI, SPACES, SPECIAL, [*known, *SPACES, *SPECIAL, *RIGHT]]
    kind = int(random.integers(len(pools) + 4))
    if kind < len(pools):
        return random.choice(["", " "]).join(random.choice(pools[kind], count).tolist())
    if kind == len(pools):
        return anything(random, count)
    if kind == len(pools) + 1:  # base characters and a heap of marks each
        heaps = ["".join(random.choice(MARKS, int(random.integers(9)))) for _ in range(count)]
        return "".join(random.choice(known) + heap for heap in heaps)
    if kind == len(pools) + 2:  # unknown words only
        return " ".join(anything(random, 4) for _ in range(count))
    return unicodedata.normalize("NFD", "Ångström, naïve façade: žluťoučký kůň"[:count])


def texts(random, known: list[str], inputs: int) -> list[list[str]]:
    """Batches of mixed lengths; early ones have the longest, which memory is then ready for."""
    batches = [["a cat sat. " * 1667], [" ".join(random.choice(known, 5000)), ""]]
    batches += [[" ".join(anything(random, 3) for _ in range(5000))], [""], ["", ""]]
    left = inputs - sum(map(len, batches))
    while left > 0:
        rows = min(left, int(random.integers(1, 2 * ROWS)))
        batches.append([one_text(random, known) for _ in range(rows)])
        left -= rows
    return batches


def scalars(random) -> dict:
    """Of a language model, at their edges more often than not."""
    return {
        name: np.array(random.choice(values), np.int32 if isinstance(values[0], int) else "float32")
        for name, values in SCALARS.items()
    }


def images(random, inputs: int) -> list[np.ndarray]:
    """Sizes from 1 x 1 on, long and thin ones, noise and one colour."""
    shapes = [(1, 400, 3), (1, 3, 600), (1, 1, 1), (1, 1, 900), (1, 900, 1)]
    while sum(shape[0] for shape in shapes) < inputs:
        rows = int(random.integers(1, 17))
        sides = random.choice([1, 2, 5, 16, 33, 70, 150], 2).tolist()
        shapes.append((rows, *sides))
    made = [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    return [np.full_like(m, m.ravel()[0]) if random.random() < 0.2 else m for m in made]


def cases_of(name: str, known: list[str], inputs: int, seed: int) -> list[dict]:
    random = np.random.default_rng(seed)
    if name == "captioner":
        return [{"image": batch} for batch in images(random, inputs // 10)]
    batches = [np.array(batch, object) for batch in texts(random, known, inputs)]
    if name.startswith("lm"):
        return [{"prompt": batch, **scalars(random)} for batch in batches]
    return [{"source": batch} for batch in batches]


# --- what answers ---


def make(name: str):
    """(a small model with random weights, the options of its export)."""
    import keras

    from kerasrnn import CharTokenizer, LanguageModel, SentencePieceTokenizer, WordTokenizer
    from kerasrnn.decoding.beam import BeamRules
    from kerasrnn.layers import BidirectionalEncoder, Decoder, ImageEncoder
    from kerasrnn.models import Captioner, Translator

    keras.utils.set_random_seed(7)
    task, _, level = name.partition(" ")
    kind = {"char": CharTokenizer, "subword": SentencePieceTokenizer}.get(level, WordTokenizer)
    tokenizer = kind.from_texts([TEXT], 60)
    sizes = {"embedding": 6, "cell": "gru", "units": 8}
    attends = {"conditioning": "gated" if task == "captioner" else "attention"}
    if task == "lm":
        model = LanguageModel(tokenizer, embedding=6, cell="lstm", units=8, layers=1)
    elif task == "translator":
        encoder, decoder = (
            BidirectionalEncoder(tokenizer.size, **sizes),
            Decoder(tokenizer.size, **sizes, **attends),
        )
        model = Translator(tokenizer, tokenizer, encoder, decoder)
    else:
        decoder = Decoder(tokenizer.size, **{**sizes, "cell": "lstm"}, **attends)
        model = Captioner(tokenizer, ImageEncoder(image_size=32), decoder)
    random = np.random.default_rng(11)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape) * (0.7 if weight.shape.rank < 4 else 0.1))
    if task == "lm":
        return model, {}
    return model, {"rules": BeamRules(beam=2, n_best=2, banned=model.banned_ids), "max_length": 6}


def keras_runner(name: str):
    from kerasrnn.export.forms import answer

    model, options = make(name)
    return functools.partial(answer, model.served(**options))


def artifact_runner(path: Path):
    """By `export/runner.py` alone, as a user without this package would."""
    place = Path(__file__).parents[1] / "export" / "runner.py"
    spec = importlib.util.spec_from_file_location("runner", place)
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    return runner.load(path)


def resident() -> int:
    """MiB of this process, but for what is free in it."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def work(name: str, runtime: str, folder: Path) -> None:
    """Answer all cases in this process; write answers or refusals, and memory."""
    files = {"onnx": "model.onnx", "saved_model": "saved_model"}
    path = folder / "export" / files.get(runtime, "")
    run = keras_runner(name) if runtime == "keras" else artifact_runner(path)
    cases, memory = pickle.loads((folder / "cases").read_bytes()), []

    def answer(case):
        try:
            return run(case)
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    with (folder / runtime).open("wb") as file:  # nothing that was answered is held
        for case in cases:
            pickle.dump(answer(case), file)
        memory.append(resident())
        for half in (cases[::2], cases[1::2]):
            for case in half:
                answer(case)
            memory.append(resident())
        pickle.dump(memory, file)


# --- what is compared ---


def compared(name: str, inputs: int, seed: int) -> tuple[list, list[str]]:
    """(a row of the table, what differed in words)."""
    from kerasrnn.export import export

    model, options = make(name)
    known = ["a", "b"] if name == "captioner" else known_of(model)
    cases = cases_of(name, known, inputs, seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        export(model, folder / "export", **options)
        (folder / "cases").write_bytes(pickle.dumps(cases))
        answers, memory, wrong = {}, [], []
        for runtime in RUNTIMES:
            command = [sys.executable, __file__, "--work", name, runtime, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                wrong.append(f"{name}, {runtime}: code {done.returncode} {done.stderr[-400:]}")
                answers[runtime] = ["crashed"] * len(cases)
                memory.append("crashed")
                continue
            with (folder / runtime).open("rb") as file:
                answers[runtime] = [pickle.load(file) for _ in cases]
                memory.append(" / ".join(map(str, pickle.load(file))))
    wrong += list(different(name, cases, answers))
    refused = sum(all(isinstance(a[i], str) for a in answers.values()) for i in range(len(cases)))
    rows = sum(len(next(iter(case.values()))) for case in cases)
    return [name, f"{rows:,}", len(cases), refused, len(wrong), *memory], wrong


def different(name: str, cases: list[dict], answers: dict[str, list]):
    """What differs from Keras, in words; a refusal (a string) differs from an answer only."""
    from kerasrnn.export.verify import differences

    for number, case in enumerate(cases):
        right, *others = (answers[runtime][number] for runtime in RUNTIMES)
        for runtime, got in zip(RUNTIMES[1:], others, strict=True):
            if isinstance(right, str) or isinstance(got, str):
                refusals = [isinstance(answer, str) for answer in (right, got)]
                found = [] if all(refusals) else [f"{got!r:.99} not {right!r:.99}"]
            else:
                found = differences(right, got)
            if found:
                yield f"{name}, batch {number}, {runtime}: {'; '.join(found)}; {case!r:.200}"


def known_of(model) -> list[str]:
    tokenizer = model.tokenizers[0] if hasattr(model, "tokenizers") else model.tokenizer
    return tokenizer.pieces[4:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="for each model; a tenth images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    if args.work:
        name, runtime, folder = args.work
        work(name, runtime, Path(folder))
        return 0
    rows, wrong = [], []
    for name in args.models:
        row, found = compared(name, args.inputs, args.seed)
        rows.append(row)
        wrong += found
        print(*row, *found[:20], sep="\n  ", flush=True)
    if args.models == MODELS:
        header = ["model", "inputs", "batches", "refused by all", "differences"]
        header += [f"{runtime}, MiB" for runtime in RUNTIMES]
        body = f"""
Random strings of all of Unicode (seed {args.seed}), images of random sizes, scalars at their edges;
memory of the process (MiB, what is free given back) after all batches, and as half of them, and
the others, were answered once more. Until then TensorFlow's grows with each new shape of a batch:
its kernels are kept by shape.

{table(header, rows)}
"""
        write("Random inputs", "python benchmarks/fuzz.py", body)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
