"""Image files in, captions out, by a run, an ONNX file or a SavedModel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import replacing
from kerasrnn.tasks.captioner.task import TASK
from kerasrnn.tasks.opening import open_model
from kerasrnn.tasks.using import Answers, answer_of, numbered, plot_path

PANEL = 600  # pixels of a picture that is drawn once a word, on 288 dots: sharp where enlarged
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class Found:
    """What became of one image, best first.

    Attributes:
        texts, scores: of the N best.
        tokens: of the best caption.
        attention: [len(tokens), G, G] of the best one.
    """

    texts: list[str]
    scores: list[float]
    tokens: list[str]
    attention: np.ndarray


def answers(options, refuse) -> Answers:
    """Caption image files; see `kerasrnn.tasks.task`."""
    path = plot_path(options.attention)
    run = open_captioner(options.model, options.beam, options.n_best, options.max_length)

    def unusable(error: InputError) -> None:
        if options.strict:
            raise error
        refuse(error)

    def found() -> Answers:
        number, images = 0, images_of(options.images)
        for number, (name, image, row) in enumerate(caption_files(run, images, unusable), 1):
            data, line = answer_of({"image": str(name)}, row.texts, row.scores, options.n_best)
            yield data, f"{name}\t{line}"
            if path:
                plot(image, row, numbered(path, number))

    return found()


def open_captioner(
    model: str, beam: int | None, n_best: int | None, max_length: int | None
) -> Callable[[np.ndarray], Found]:
    """A captioner of pixels, uint8 [h, w, 3].

    Args:
        model: a run folder, an ONNX file or a SavedModel.
        beam, n_best, max_length: None for the run's own; an exported model's are fixed.

    Raises:
        InputError: when the model or an argument cannot be used.
    """
    run = open_model(model, TASK, beam=beam, n_best=n_best, max_length=max_length)

    def caption(image: np.ndarray) -> Found:
        found = run({"image": image[np.newaxis]})
        tokens = [token for token in found["target_tokens"][0].tolist() if token]
        best = slice(n_best or 1)
        return Found(
            found["text"][0, best].tolist(),
            found["score"][0, best].tolist(),
            tokens,
            found["attention"][0, : len(tokens)],
        )

    return caption


def images_of(given: Sequence[str]) -> Iterator[Path]:
    """The image files that are meant: files, those in a folder by name, and for "-", or where
    nothing is given, the paths on stdin, one a line.

    Raises:
        InputError: when a folder has none, or no image is named.
    """
    named = False
    for path in _paths(given or ["-"]):
        named = True
        yield path
    if not named:
        raise InputError("IMAGE", "image files, or paths on stdin", "none", "give some")


def _paths(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        if name == "-":
            yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
        elif path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError("IMAGE", "JPEG or PNG files in the folder", path, "check the path")
            yield from inside
        else:
            yield path


def caption_files(
    caption: Callable[[np.ndarray], Found], paths: Iterable[Path], refused: Callable
) -> Iterator[tuple[Path, np.ndarray, Found]]:
    """(path, pixels, what was found) of each file that can be used.

    Args:
        refused: called with the `ImageError` of each file that cannot be.
    """
    from kerasrnn.pipelines.images import ImageError, read_image

    for path in paths:
        try:
            image = read_image(path)
        except ImageError as error:
            refused(error)
            continue
        yield path, image, caption(image)


def plot(image: np.ndarray, found: Found, path: Path) -> None:
    """Draw the image once for each word, where the captioner looked laid over it."""
    from kerasrnn.analysis.plots import attention_over_image

    with replacing(path) as beside:
        attention_over_image(reduced(image), found.tokens, found.attention, beside)


def reduced(image: np.ndarray) -> np.ndarray:
    """The image with a longer side of at most `PANEL` pixels.

    >>> reduced(np.zeros([500, 3000, 3], np.uint8)).shape
    (100, 600, 3)
    """
    from PIL import Image

    if max(image.shape[:2]) <= PANEL:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((PANEL, PANEL))
    return np.array(picture)
