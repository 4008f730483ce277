"""Measure an ONNX file with the scores of its task, for a comparison of full and quantized."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from kerasrnn.export.quantization import smaller
from kerasrnn.export.verify import Case, run_fresh
from kerasrnn.tasks.evaluation import files_for

LINES, IMAGES, TOKENS = 500, 200, 50_000  # the most that is measured, to take about a minute
ROWS = 32  # lines translated together
PORTION = 2**28  # bytes of photos at their full size that lie in memory and on the disk together

Measure = Callable[[Path, str | None], dict]


def measure_of(run: str | Path, model, say: Callable[[str], None], **files) -> Measure:
    """Return the function that measures an ONNX file in ONNX Runtime.

    Args:
        run: the run folder.
        model: its Keras model.
        say: called with a message, for example about data that was left out.
        files: as for `evaluate`; the first `LINES`, `IMAGES` or `TOKENS` of them are used.

    Returns:
        (ONNX file, kind of quantization or None) -> scores by name.

    Raises:
        InputError: when the run or a file cannot be used, or is not for this task.
    """
    task, values = files_for(run, files)
    return MEASURES[task](run, model, say, *values)


def _language_model(run, model, say, text) -> Measure:
    """Return the measure of a language model: nats, bits per character and perplexity.

    The exported file generates text and gives no probabilities. So the same weights are measured
    in a second graph, which reads text and is quantized in the same way.
    """
    from kerasrnn.export.language_model import Served
    from kerasrnn.tasks.language_model import measured_text

    with tempfile.TemporaryDirectory() as folder:
        windows, _, _ = measured_text(run, text, model.tokenizer, Path(folder))
        rows, length = next(iter(windows))[0].shape
        # All windows are read here, because the folder is deleted after the block.
        windows = [*windows.take(max(1, TOKENS // (rows * length))).as_numpy_iterator()]
    reader = Served(model).reader_onnx()

    def measure(path: Path, kind: str | None) -> dict:
        return _nats(smaller(reader, kind) if kind else reader, model, windows)

    return measure


def _nats(reader, model, windows) -> dict:
    """Return the scores of an ONNX graph that reads windows (ids [B, T], targets [B, T])."""
    import onnxruntime

    from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity

    session = onnxruntime.InferenceSession(
        reader.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    metrics = [Nats(), BitsPerCharacter(model.tokenizer.characters_per_id), Perplexity()]
    state_inputs = session.get_inputs()[1:]  # the first input is the ids
    names = [state_input.name for state_input in state_inputs]
    state = [np.zeros([len(windows[0][0]), s.shape[1]], np.float32) for s in state_inputs]
    for ids, targets in windows:
        inputs = {"ids": ids, **dict(zip(names, state, strict=True))}
        logits, *final_state = session.run(None, inputs)
        # Windows follow each other in the text only where the model carries state.
        state = final_state if model.options["carry_state"] else state
        for metric in metrics:
            metric.update_state(targets, logits)
    tokens = sum(int(np.count_nonzero(targets)) for _, targets in windows)  # 0 is padding
    return {metric.name: float(metric.result()) for metric in metrics} | {"tokens": tokens}


def _translator(run, model, say, source, target) -> Measure:
    """Return the measure of a translator, on the first `LINES` pairs."""
    from kerasrnn.tasks.translation import measured_texts, scores

    _, texts = measured_texts(run, source, target)
    pairs = list(texts.pairs())[:LINES]  # reads all pairs, so a fault in a later line is refused
    sources, references = (list(side) for side in zip(*pairs, strict=True))
    batches = [sources[start : start + ROWS] for start in range(0, len(sources), ROWS)]
    cases = [{"source": np.array(batch, object)} for batch in batches]

    def measure(path: Path, kind: str | None) -> dict:
        return scores(_texts(path, cases), references) | {"lines": len(sources)}

    return measure


def _captioner(run, model, say, images, captions, split) -> Measure:
    """Return the measure of a captioner, on the first `IMAGES` images."""
    from kerasrnn.pipelines.images import read_image
    from kerasrnn.tasks.captioning import measured_images, scores, split_of

    _, examples = measured_images(run, images, captions, split, say)
    examples = examples[:IMAGES]
    references = [example.captions for example in examples]

    def measure(path: Path, kind: str | None) -> dict:
        # Photos at full size may not fit into memory together, so they are read in portions.
        cases = ({"image": read_image(example.image)[np.newaxis]} for example in examples)
        texts = [text for portion in portions(cases) for text in _texts(path, portion)]
        return scores(texts, references) | {"images": len(examples), **split_of(examples)}

    return measure


def portions(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Yield the cases in lists of up to `PORTION` bytes; a larger case is a list of its own."""
    portion, size = [], 0
    for case in cases:
        case_size = sum(value.nbytes for value in case.values())
        if portion and size + case_size > PORTION:
            yield portion
            portion, size = [], 0
        portion.append(case)
        size += case_size
    if portion:
        yield portion


def _texts(path: Path, cases: list[dict]) -> list[str]:
    """Return the best text of each row of the cases."""
    return [text for answer in run_fresh(path, cases) for text in answer["text"][:, 0].tolist()]


MEASURES = {"lm": _language_model, "translator": _translator, "captioner": _captioner}
