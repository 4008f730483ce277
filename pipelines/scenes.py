"""Built-in pictures with captions: a few shapes on a texture, and true sentences about them.

Each scene is drawn from its seed and number alone; nothing is stored or downloaded.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from kerasrnn.base.errors import InputError

SIZE = 64  # pixels of a side
CAPTIONS = 4  # captions of a scene
FINE = 4  # shapes are drawn so many times larger and then reduced, for smooth edges
TRIES = 32  # arrangements drawn at a time, until one has all shapes apart
GAP = 2  # pixels between shapes, and to the picture's edge
CLEAR, ENOUGH = 10, 4  # pixels between centres: to state a relation; for it to be true

SIZES = {"small": (11, 13), "large": (22, 26)}  # pixels across, both included
COLOURS = {
    "red": (215, 40, 45),
    "green": (40, 165, 65),
    "blue": (40, 85, 215),
    "yellow": (240, 215, 50),
    "purple": (140, 50, 175),
    "orange": (240, 130, 30),
}
KINDS = ("circle", "square", "triangle")
RELATIONS = {  # axis (0: x, 1: y) and sign of the offset
    "above": (1, -1),
    "below": (1, 1),
    "to the left of": (0, -1),
    "to the right of": (0, 1),
}
LEADS = ("", "there is ", "here is ", "a picture of ", "the picture shows ")
TEXTURES = (  # shades in [-1, 1] at positions in radians, along and across a random direction
    lambda random, along, across: random.uniform(-1, 1, along.shape),
    lambda random, along, across: np.sin(along),
    lambda random, along, across: np.clip(4 * np.sin(along) * np.sin(across), -1, 1),
    lambda random, along, across: along / np.abs(along).max(),
)

# caption = [LEAD] MENTION (JOINT MENTION)*
LEAD = re.compile(f"^({'|'.join(filter(None, LEADS))})")
MENTION = re.compile(f"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(KINDS)})")
JOINT = re.compile(f" (and|{'|'.join(RELATIONS)}) ")


@dataclass(frozen=True)
class Shape:
    """One shape of a scene; `box` is (left, top, right, bottom) in pixels.

    >>> Shape("circle", "red", "large", (8, 20, 32, 44)).centre
    (20.0, 32.0)
    """

    kind: str
    colour: str
    size: str
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.kind}"


class Scene(NamedTuple):
    """A picture, uint8 [SIZE, SIZE, 3], its shapes, and captions that are true of it."""

    image: np.ndarray
    shapes: tuple[Shape, ...]
    captions: tuple[str, ...]


class Mention(NamedTuple):
    """A shape named in a caption; `word` is the index of its kind in `caption.split()`."""

    size: str
    colour: str
    kind: str
    word: int


class SceneFiles(NamedTuple):
    """The files of `write_scenes`: the folder of pictures, and two tables of captions."""

    images: Path
    train: Path
    valid: Path


def _parse(caption: str) -> tuple[list[Mention], list[str]]:
    """The mentions and the joints between them; two empty lists when the grammar does not match."""
    parts = JOINT.split(LEAD.sub("", caption))
    if not all(map(MENTION.fullmatch, parts[::2])):
        return [], []
    matches = MENTION.finditer(caption)
    return [
        Mention(*match.groups(), caption.count(" ", 0, match.end())) for match in matches
    ], parts[1::2]


def _holds(joint: str, first: Shape, second: Shape) -> bool:
    """Whether the joint is true of the two shapes."""
    if joint == "and":
        return True
    axis, sign = RELATIONS[joint]
    return sign * (first.centre[axis] - second.centre[axis]) >= ENOUGH


def mentions(caption: str) -> list[Mention]:
    """The shapes named in a caption, in its order; none when it does not match the grammar.

    >>> mentions("there is a large red circle above a small blue square")[1]
    Mention(size='small', colour='blue', kind='square', word=10)
    """
    return _parse(caption)[0]


def referred(caption: str, shapes: Iterable[Shape]) -> list[Shape] | None:
    """Find the shape behind each mention of a caption.

    The shapes are all different, and every relation between neighbouring mentions is true. None
    when no choice of shapes does this, or the caption does not match the grammar.

    >>> shapes = Shape("circle", "red", "large", (8, 4, 32, 28)), Shape(
    ...     "square", "blue", "small", (20, 40, 32, 52)
    ... )
    >>> [str(shape) for shape in referred("a small blue square below a large red circle", shapes)]
    ['a small blue square', 'a large red circle']
    >>> referred("a small blue square above a large red circle", shapes) is None
    True
    """
    mentioned, joints = _parse(caption)
    if not mentioned:
        return None
    for chosen in itertools.permutations(shapes, len(mentioned)):
        alike = all(
            (shape.size, shape.colour, shape.kind) == mention[:3]
            for shape, mention in zip(chosen, mentioned, strict=True)
        )
        if alike and all(map(_holds, joints, chosen, chosen[1:])):
            return list(chosen)
    return None


def is_true(caption: str, shapes: Iterable[Shape]) -> bool:
    """Whether a caption matches the grammar and is true; it need not mention every shape.

    >>> is_true("a large red circle", [Shape("circle", "red", "large", (8, 4, 32, 28))])
    True
    """
    return referred(caption, shapes) is not None


def covered(shape: Shape, grid: int) -> np.ndarray:
    """The cells of a grid over the picture that overlap the shape's box: bool [grid, grid].

    >>> covered(Shape("circle", "red", "large", (20, 40, 44, 64)), 4).astype(int)
    array([[0, 0, 0, 0],
           [0, 0, 0, 0],
           [0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    start = np.arange(grid) * SIZE / grid
    end = start + SIZE / grid
    left, top, right, bottom = shape.box
    return np.outer((start < bottom) & (end > top), (start < right) & (end > left))


def _boxes(across: np.ndarray, random: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Boxes of squares with sides `across` [n], inside the picture and apart from each other."""
    n = len(across)
    while True:
        start = random.integers(GAP, SIZE - GAP - across, (TRIES, 2, n), endpoint=True)
        end = start + across
        gap = start[..., :, None] - end[..., None, :]  # [TRIES, axis, n, n]
        # Two squares are apart when the gap is wide enough on one axis, in one direction.
        apart = (np.maximum(gap, gap.swapaxes(2, 3)).max(axis=1) >= GAP) | np.eye(n, dtype=bool)
        valid = np.flatnonzero(apart.all(axis=(1, 2)))
        if len(valid):
            return list(map(tuple, np.concatenate([start, end], axis=1)[valid[0]].T.tolist()))


def _shapes(random: np.random.Generator) -> tuple[Shape, ...]:
    """One to three shapes, all different in size, colour or kind."""
    looks = list(itertools.product(KINDS, COLOURS, SIZES))
    chosen = random.choice(len(looks), random.integers(1, 4), replace=False)
    smallest, largest = zip(*(SIZES[looks[look][2]] for look in chosen), strict=True)
    boxes = _boxes(random.integers(smallest, largest, endpoint=True), random)
    return tuple(Shape(*looks[look], box) for look, box in zip(chosen, boxes, strict=True))


def _background(random: np.random.Generator) -> np.ndarray:
    """A texture in shades of one greyish tint, uint8 [SIZE, SIZE, 3]."""
    angle, period = random.uniform(0, math.pi), random.uniform(6, 16)
    x = (np.arange(SIZE, dtype=np.float32) - SIZE / 2) * (2 * math.pi / period)
    y = x[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    shade = TEXTURES[random.integers(len(TEXTURES))](random, along, across)
    tint = random.uniform(80, 200) + random.uniform(-10, 10, 3)
    return (tint + random.uniform(10, 25) * shade[..., None]).astype(np.uint8)


@functools.cache
def _mask(kind: str, across: int) -> Image.Image:
    """The share of each pixel of its box that a shape covers, 0 to 255."""
    end = FINE * across - 1
    mask = Image.new("L", (end + 1, end + 1))
    pencil = ImageDraw.Draw(mask)
    if kind == "circle":
        pencil.ellipse((0, 0, end, end), fill=255)
    elif kind == "square":
        pencil.rectangle((0, 0, end, end), fill=255)
    else:
        pencil.polygon(((end / 2, 0), (end, end), (0, end)), fill=255)
    return mask.reduce(FINE)


def _draw(image: Image.Image, shape: Shape, random: np.random.Generator) -> None:
    """Paste the shape into its box, in a colour near the one it is named after."""
    left, top, right, _ = shape.box
    near = random.integers(-12, 12, 3, endpoint=True) + COLOURS[shape.colour]
    image.paste(tuple(near.tolist()), (left, top), _mask(shape.kind, right - left))


def _relation(first: Shape, second: Shape) -> str | None:
    """A relation that clearly holds, on the axis where the shapes are farther apart, or None."""
    offsets = [a - b for a, b in zip(first.centre, second.centre, strict=True)]
    for name, (axis, sign) in RELATIONS.items():
        if sign * offsets[axis] >= CLEAR and abs(offsets[axis]) > abs(offsets[1 - axis]):
            return name
    return None


def _prominence(shape: Shape) -> tuple:
    """A sort key: large before small, then upper before lower, then left before right."""
    return shape.size != "large", shape.centre[1], shape.centre[0]


def _sentences(shapes: tuple[Shape, ...]) -> list[str]:
    """All possible captions of a scene.

    They are about its two most prominent shapes, or its only one, with or without the relation.
    """
    named = sorted(shapes, key=_prominence)[:2]
    joints = ["and"]
    if len(named) == 2 and (relation := _relation(*named)):
        joints.append(relation)
    bodies = [f" {joint} ".join(map(str, named)) for joint in joints]
    return [lead + body for body in bodies for lead in LEADS]


def scene(seed: int, number: int) -> Scene:
    """Draw the scene of a seed and a number; it does not depend on other scenes.

    >>> image, shapes, captions = scene(seed=0, number=7)
    >>> image.shape, [is_true(caption, shapes) for caption in captions]
    ((64, 64, 3), [True, True, True, True])
    """
    random = np.random.default_rng([seed, number])
    shapes = _shapes(random)
    image = Image.fromarray(_background(random))
    for shape in shapes:
        _draw(image, shape, random)
    captions = random.permutation(_sentences(shapes))[:CAPTIONS]
    return Scene(np.array(image), shapes, tuple(captions.tolist()))


def _write(table: Path, images: Path, seed: int, numbers: range) -> None:
    """Write a picture for each number, and one row of the table for each of its captions."""
    with table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("image", "caption"))
        for number in numbers:
            drawn, name = scene(seed, number), f"{number:05d}.png"
            encoded = io.BytesIO()  # one write to the disk: Pillow makes many small, slow ones
            Image.fromarray(drawn.image).save(encoded, "PNG", compress_level=1)
            (images / name).write_bytes(encoded.getbuffer())
            rows.writerows((name, caption) for caption in drawn.captions)


def write_scenes(
    folder: str | Path, seed: int = 0, train: int = 4000, valid: int = 400
) -> SceneFiles:
    """Write scenes as pictures and tables of captions; no validation scene is in training.

    Args:
        folder: where to write; created if missing.
        seed: seed of the scenes, 0 or more.
        train, valid: number of scenes for training and validation, four captions each.

    Raises:
        InputError: when the seed or a number of scenes is too small.

    >>> import tempfile
    >>> files = write_scenes(tempfile.mkdtemp(), train=2, valid=1)
    >>> len(files.train.read_text(encoding="utf-8").splitlines())
    9
    """
    for argument, value, least in (("seed", seed, 0), ("train", train, 1), ("valid", valid, 1)):
        if value < least:
            raise InputError(argument, f"{least} or more", value, "raise it")
    folder = Path(folder)
    files = SceneFiles(folder / "images", folder / "train.csv", folder / "valid.csv")
    files.images.mkdir(parents=True, exist_ok=True)
    _write(files.train, files.images, seed, range(train))
    _write(files.valid, files.images, seed, range(train, train + valid))
    return files
