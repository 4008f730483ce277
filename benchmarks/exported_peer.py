"""An exported model in a process of its own: `exported_peer.py ARTIFACT INPUT BATCHES.npz`.

For each line on stdin it answers every batch and prints its seconds and the texts. On its own,
because onnxruntime-extensions and TensorFlow Text cannot share a process.
"""

import json
import sys
import time

from kerasrnn.export.runner import load, read_cases


def main(artifact: str, name: str, file: str) -> None:
    batches = [case[name] for case in read_cases(file)]
    run = load(artifact)
    for _ in sys.stdin:
        begun = time.perf_counter()
        found = [run({name: batch})["text"][:, 0] for batch in batches]
        seconds = time.perf_counter() - begun
        texts = [str(text) for batch in found for text in batch]
        print(json.dumps({"seconds": seconds, "answer": texts}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
