"""The translator's numbers: BLEU on Multi30k, speed of decoding, speed of an attention decoder.

    python benchmarks/translation.py multi30k --data FOLDER [--target de] [--out RUN]
    python benchmarks/translation.py decoding --run RUN --text FILE [--torch-python PYTHON]
    python benchmarks/translation.py attention [--torch-python PYTHON]

Each rewrites its section of RESULTS.md. FOLDER holds train, val and test_2016_flickr, each .en and
the target's language. PYTHON can import torch.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from results import table, write

CLI = [sys.executable, "-m", "kerasrnn.cli"]
REFERENCES = """The systems to beat are text-only and recurrent too, lowercased and tokenised:
nmtpy 37.3, LIUM-CVC 2017 38.1."""


def multi30k(data: Path, target: str, out: Path) -> None:
    """Train the preset `multi30k` into `out`, unless it is finished there, and measure it."""
    from kerasrnn.training.checkpoints import read_progress

    files = [f"{data}/{part}.{side}" for part in ("train", "val") for side in ("en", target)]
    names = ("--source", "--target", "--valid-source", "--valid-target")
    given = [word for pair in zip(names, files, strict=True) for word in pair]
    progress = read_progress(out)
    if progress is None or not progress.finished:
        train = [*CLI, "train", "translator", *given, "--preset", "multi30k", "--out", str(out)]
        subprocess.run(train, check=True)
    test = [f"{data}/test_2016_flickr.{side}" for side in ("en", target)]
    evaluate = [*CLI, "evaluate", str(out), "--source", test[0], "--target", test[1], "--json"]
    figures = json.loads(subprocess.run(evaluate, check=True, capture_output=True).stdout)
    figures["tokenised"] = tokenised_bleu(out, *test, target)
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    write_multi30k(target, figures, rows, json.loads((out / "config.json").read_text()))


def tokenised_bleu(run: Path, source: str, target: str, language: str) -> float | None:
    """BLEU of lowercased text in Moses's tokens, as the systems to beat were measured.

    None without sacremoses, which nothing else needs.
    """
    try:
        from sacremoses import MosesTokenizer
    except ImportError:
        return None
    import sacrebleu

    translate = [*CLI, "translate", str(run), source]
    found = subprocess.run(translate, check=True, capture_output=True, text=True).stdout
    tokenizer = MosesTokenizer(language)

    def tokens(text):
        return [tokenizer.tokenize(row, return_str=True, escape=False) for row in text.split("\n")]

    sides = (found.rstrip("\n"), Path(target).read_text(encoding="utf-8").rstrip("\n"))
    ours, reference = map(tokens, sides)
    metric = sacrebleu.BLEU(tokenize="none", lowercase=True, force=True)
    return metric.corpus_score(ours, [reference]).score


def write_multi30k(target: str, figures: dict, rows: list[dict], config: dict) -> None:
    s = config["settings"]
    minutes = sum(float(row["seconds"]) for row in rows) / 60
    shown, so_far = [], 0.0
    for row in rows:
        so_far += float(row["seconds"]) / 60
        speed = f"{float(row['tokens_per_second']):,.0f}"
        cells = [f"{float(row[name]):.3f}" for name in ("nats", "val_nats")]
        shown.append(
            [row["epoch"], *cells, f"{float(row['val_bleu']):.2f}", speed, f"{so_far:.1f}"]
        )
    header = ["epoch", "training nats", "validation nats", "validation BLEU (greedy)"]
    signatures = {n: figures[f"{n}_signature"].replace("|", ", ") for n in METRICS}
    scores = [[n, f"**{figures[n]:.2f}**", signatures[n]] for n in METRICS]
    if figures["tokenised"] is not None:
        how = "lowercased, in Moses's tokens (sacremoses)"
        scores.append(["BLEU", f"**{figures['tokenised']:.2f}**", how])
    body = f"""
test_2016_flickr, beam {s["beam"]}, after {minutes:.1f} minutes of training, validation not counted:

{table(["metric", "score", "how"], scores)}

{REFERENCES if target == "de" else ""}

{s["cell"]} of {s["units"]}, embedding {s["embedding"]}, {s["vocabulary"]} joint subwords, dropout
{s["dropout"]}, label smoothing {s["label_smoothing"]}, {s["epochs"]} epochs.

{table([*header, "target tokens/s", "minutes so far"], shown)}
"""
    command = f"python benchmarks/translation.py multi30k --data multi30k --target {target}"
    write(f"Translator: Multi30k en-{target}", command, body)


METRICS = ("bleu", "bleu_lowercase", "chrf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("multi30k")
    first.add_argument("--data", type=Path, required=True)
    first.add_argument("--target", default="de")
    first.add_argument("--out", type=Path)
    second = commands.add_parser("decoding")
    second.add_argument("--run", required=True)
    second.add_argument("--text", type=Path, required=True)
    third = commands.add_parser("attention")
    for peer in (second, third):
        peer.add_argument("--torch-python")
        peer.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.command == "decoding":
        from translation_speed import decoding

        decoding(args.run, args.text, args.torch_python, args.rounds)
    elif args.command == "attention":
        from translation_speed import attention

        attention(args.torch_python, args.rounds)
    elif args.out:
        multi30k(args.data, args.target, args.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            multi30k(args.data, args.target, Path(folder, "run"))


if __name__ == "__main__":
    main()
