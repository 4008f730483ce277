"""An ONNX file measured on the metric of its task, to be held against a smaller one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from kerasrnn.export.quantization import smaller
from kerasrnn.export.verify import Case, run_fresh
from kerasrnn.tasks.evaluation import files_for

LINES, IMAGES, TOKENS = 500, 200, 50_000  # at most: a minute or so
ROWS = 32  # lines translated at once
PORTION = 2**28  # bytes of photos at their full size, in memory and on the disk at once

Measure = Callable[[Path, str | None], dict]


def measure_of(run: str | Path, model, say: Callable[[str], None], **files) -> Measure:
    """(an ONNX file, the kind of its weights or None) -> its figures, by ONNX Runtime.

    Args:
        run: the run folder.
        model: its model.
        say: told what was left out.
        files: as for `evaluate`; the first `LINES`, `IMAGES` or `TOKENS` of them are used.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    task, given = files_for(run, files)
    return MEASURES[task](run, model, say, *given)


def _language_model(run, model, say, text) -> Measure:
    """The whole-decode file tells no probabilities: the same weights read text, made small the
    same way."""
    from kerasrnn.export.language_model import Served
    from kerasrnn.tasks.language_model import measured_text

    with tempfile.TemporaryDirectory() as folder:
        windows, _, _ = measured_text(run, text, model.tokenizer, Path(folder))
        first = next(iter(windows))[0].shape
        windows = [*windows.take(max(1, TOKENS // (first[0] * first[1]))).as_numpy_iterator()]
    reader = Served(model).reader_onnx()

    def measure(path: Path, kind: str | None) -> dict:
        return _nats(smaller(reader, kind) if kind else reader, model, windows)

    return measure


def _nats(reader, model, windows) -> dict:
    import onnxruntime

    from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity

    session = onnxruntime.InferenceSession(
        reader.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    metrics = [Nats(), BitsPerCharacter(model.tokenizer.characters_per_id), Perplexity()]
    states = [given.name for given in session.get_inputs()][1:]
    zeros = [given.shape[1] for given in session.get_inputs()][1:]
    state = [np.zeros([len(windows[0][0]), size], np.float32) for size in zeros]
    for ids, targets in windows:
        logits, *after = session.run(None, {"ids": ids, **dict(zip(states, state, strict=True))})
        state = after if model.options["carry_state"] else state
        for metric in metrics:
            metric.update_state(targets, logits)
    tokens = sum(int(np.count_nonzero(targets)) for _, targets in windows)
    return {metric.name: float(metric.result()) for metric in metrics} | {"tokens": tokens}


def _translator(run, model, say, source, target) -> Measure:
    from kerasrnn.tasks.translation import measured_texts, scores

    _, texts = measured_texts(run, source, target)
    pairs = list(texts.pairs())[:LINES]  # a fault behind them is refused too
    sources, references = (list(side) for side in zip(*pairs, strict=True))
    batches = [sources[start : start + ROWS] for start in range(0, len(sources), ROWS)]
    cases = [{"source": np.array(batch, object)} for batch in batches]

    def measure(path: Path, kind: str | None) -> dict:
        return scores(_texts(path, cases), references) | {"lines": len(sources)}

    return measure


def _captioner(run, model, say, images, captions, split) -> Measure:
    from kerasrnn.pipelines.images import read_image
    from kerasrnn.tasks.captioning import measured_images, scores, split_of

    _, captioned = measured_images(run, images, captions, split, say)
    captioned = captioned[:IMAGES]
    references = [one.captions for one in captioned]

    def measure(path: Path, kind: str | None) -> dict:
        cases = ({"image": read_image(one.image)[np.newaxis]} for one in captioned)
        texts = [text for portion in portions(cases) for text in _texts(path, portion)]
        return scores(texts, references) | {"images": len(captioned), **split_of(captioned)}

    return measure


def portions(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Cases in lists of up to `PORTION` bytes, or of one case that is larger."""
    portion, size = [], 0
    for case in cases:
        more = sum(value.nbytes for value in case.values())
        if portion and size + more > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(case)
        size += more
    if portion:
        yield portion


def _texts(path: Path, cases: list[dict]) -> list[str]:
    """The best text of each row."""
    return [text for answer in run_fresh(path, cases) for text in answer["text"][:, 0].tolist()]


MEASURES = {"lm": _language_model, "translator": _translator, "captioner": _captioner}
