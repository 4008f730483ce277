"""Caption ids and batches of images with captions.

B batch, T target time, N captions; an image has several. Images come from a `Store`, as pixels of
one size or as features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn.pipelines.batching import Part, planned_batches
from kerasrnn.pipelines.caption_files import CaptionFaults, Row, caption_rows, refusal
from kerasrnn.pipelines.dataset import Position, is_held_out
from kerasrnn.pipelines.ids import at_top, pieces, teacher_forcing
from kerasrnn.pipelines.pairs import LINES, Limits
from kerasrnn.pipelines.reports import Tally
from kerasrnn.pipelines.service import Service, Stage
from kerasrnn.pipelines.store import Store
from kerasrnn.text.tokenizers import UNKNOWN, Tokenizer


class Captioned(NamedTuple):
    """An image and all its captions.

    Attributes:
        image: its file.
        captions: one or more, stripped, with single spaces between words.
        split: "train", "val", "test", or "" when the file has no splits.
    """

    image: Path
    captions: tuple[str, ...]
    split: str = ""


def _image(images: Path, row: Row) -> Path:
    """The path of the row's image, which must be inside the folder."""
    name = Path(row.name)
    if name.anchor or ".." in name.parts or not name.name or "\0" in row.name:
        expected = "names of files inside the folder of images"
        raise refusal(expected, f"{row.name[:80]!r} in {row.place}")
    return images / name


def _caption(row: Row, faults: CaptionFaults) -> str:
    """The row's caption with single spaces. An empty one gives "" and is noted as a fault."""
    caption = " ".join(row.caption.split())
    if not caption:
        faults.note("empty", row.place, "text in every caption")
    try:
        # JSON can hold half a surrogate pair ("\ud800"), which no UTF-8 file can.
        f"{row.name}{caption}".encode()
    except UnicodeEncodeError as error:
        raise refusal("Unicode", f"{row.place} (half a surrogate pair)") from error
    return caption


def read_captions(
    file: str | Path, images: str | Path, *, lowercase: bool = True
) -> list[Captioned]:
    """Read all captions of each image, in the order in which the images first appear in `file`.

    The content of the file decides its kind: CSV with the columns `image` and `caption` (other
    columns are ignored); lines of `NAME.jpg#0`, a tab and a caption, as in Flickr8k; Karpathy's
    `dataset_*.json`, whose split "restval" becomes "train"; or COCO's `captions_*.json`. The file
    is UTF-8, plain or gzip. Images without captions are left out.

    Args:
        file: the captions.
        images: the folder that the names in `file` are relative to; it is not read here.
        lowercase: whether to turn captions into lower case.

    Raises:
        InputError: when the file cannot be read, is broken or incomplete, or has a name outside
            the folder; the message gives the line or the place in the JSON. Also when captions are
            empty, or lines are malformed or not UTF-8; the message lists the first ten.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five.csv"
    >>> rows = ["image,caption", "a.jpg,One", "b.jpg,Two", 'a.jpg,"3, 4"', "b.jpg,5", "c.jpg,6"]
    >>> _ = path.write_text("\\n".join(rows))
    >>> [(image.name, captions) for image, captions, _ in read_captions(path, "images")]
    [('a.jpg', ('one', '3, 4')), ('b.jpg', ('two', '5')), ('c.jpg', ('6',))]
    """
    captions, splits, faults = {}, {}, CaptionFaults()
    for row in caption_rows(file, faults):
        if not (caption := _caption(row, faults)):
            continue
        image = _image(Path(images), row)
        if splits.setdefault(image, row.split) != row.split:
            received = f"{splits[image]} and {row.split} for {row.name} in {row.place}"
            raise refusal("one split for each image", received)
        captions.setdefault(image, []).append(caption.lower() if lowercase else caption)
    faults.refuse_all()
    if not captions:
        raise refusal("a file with captions in it", f"{file}, which has none", "give another")
    return [Captioned(image, tuple(texts), splits[image]) for image, texts in captions.items()]


def split(captioned: Sequence[Captioned], share: float) -> tuple[list[Captioned], list[Captioned]]:
    """Split captioned images into (training, validation); all captions of an image stay together.

    Where the file has a split "val", the splits "train" and "val" are used. Otherwise `share` of
    the images, spread over the whole file, is held out. Images of "test" are left out in both
    cases.

    Raises:
        InputError: when either side would be empty.

    >>> images = [Captioned(Path(f"{n}.jpg"), ("a", "b")) for n in range(5)]
    >>> [[entry.image.stem for entry in side] for side in split(images, 0.4)]
    [['0', '1', '3'], ['2', '4']]
    """
    usable = [entry for entry in captioned if entry.split != "test"]
    if any(entry.split == "val" for entry in usable):
        sides = [[entry for entry in usable if entry.split == name] for name in ("train", "val")]
        if not sides[0]:
            received = 'none of the split "train"'
            raise refusal("images to train on", received, "give the whole file")
        return sides[0], sides[1]
    total = len(usable)
    held_out = round(share * total) if 0 < share < 1 else 0
    if not 0 < held_out < total:
        received = f"{total:,} images, of which a share of {share:g} is held out"
        raise refusal("images to train on and some to validate", received, "give more images")
    is_valid = [is_held_out(number, held_out, total) for number in range(total)]
    train, valid = (
        [entry for entry, v in zip(usable, is_valid, strict=True) if v == side]
        for side in (False, True)
    )
    return train, valid


@dataclass
class CaptionReport(Tally):
    """Counts of captions kept and dropped, for people; places are the images' paths.

    Attributes:
        kept, dropped, places: as in `Tally`.
        images: number of images that have a kept caption.
        tokens: number of ids in kept captions, without start and end.
        unknown: how many of these ids are the unknown id.

    >>> report = CaptionReport(kept=5, images=1, tokens=60, unknown=2)
    >>> report.drop("over 20 tokens", "images/a.jpg")
    >>> print(report)
    5 captions of 1 images, 60 tokens (2 unknown); 1 dropped: 1 over 20 tokens (images/a.jpg)
    """

    images: int = 0
    tokens: int = 0
    unknown: int = 0

    def __str__(self) -> str:
        text = f"{self.kept:,} captions of {self.images:,} images"
        return f"{text}, {self.tokens:,} tokens ({self.unknown:,} unknown){self.losses()}"


@dataclass(frozen=True, eq=False)
class Examples:
    """N captions, each with its image; an image is repeated for each of its captions.

    Attributes:
        images: N paths.
        ids: N id rows, int32 [length] each, without start and end.

    >>> examples = Examples([Path("a.jpg")] * 2, [np.array([4, 5, 6]), np.array([7, 8])])
    >>> len(examples), examples.target_lengths.tolist()
    (2, [3, 2])
    """

    images: list[Path]
    ids: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def target_lengths(self) -> np.ndarray:
        """The captions' lengths, int32 [N]."""
        return np.array([len(ids) for ids in self.ids], np.int32)

    @property
    def source_lengths(self) -> np.ndarray:
        """The captions' lengths again: an image has no length that could decide a batch."""
        return self.target_lengths


def encode_captions(
    captioned: Sequence[Captioned], tokenizer: Tokenizer, longest: int | None = None
) -> tuple[Examples, CaptionReport]:
    """Turn captions into ids, in order; captions over `longest` tokens are dropped and counted.

    Raises:
        InputError: when every caption is dropped, or `longest` is below 1.

    >>> from kerasrnn.text.tokenizers import CharTokenizer
    >>> a, b = ("ab", "abba", "ba"), ("c", "b")
    >>> captioned = [Captioned(Path("a.jpg"), a), Captioned(Path("b.jpg"), b)]
    >>> examples, report = encode_captions(captioned, CharTokenizer(["a", "b"]), longest=3)
    >>> [ids.tolist() for ids in examples.ids]
    [[4, 5], [5, 4], [1], [5]]
    >>> print(report)
    4 captions of 2 images, 6 tokens (1 unknown); 1 dropped: 1 over 3 tokens (a.jpg)
    """
    limits, report = Limits(maximum=longest), CaptionReport()
    pairs = [(entry.image, caption) for entry in captioned for caption in entry.captions]
    images, kept = [], []
    for start in range(0, len(pairs), LINES):
        paths, captions = zip(*pairs[start : start + LINES], strict=True)
        ids = tokenizer.tokenize(list(captions))
        lengths = ids.row_lengths().numpy()
        rows = np.split(ids.flat_values.numpy().astype(np.int32), np.cumsum(lengths)[:-1])
        reasons = limits.reasons(lengths, lengths).tolist()
        for path, row, reason in zip(paths, rows, reasons, strict=True):
            if reason:
                report.drop(reason, str(path))
            else:
                images.append(path)
                kept.append(row)
    report.kept, report.images = len(kept), len(set(images))
    report.tokens = sum(map(len, kept))
    report.unknown = sum(int(np.sum(row == UNKNOWN)) for row in kept)
    if not kept:
        raise refusal("captions that can be used", str(report), "let longer ones in")
    return Examples(images, kept), report


def batches(
    examples: Examples,
    store: Store,
    *,
    batch_size: int,
    seed: int | None = None,
    position: Position | None = None,
    pad_to_multiple: int = 4,
    shard: tuple[int, int] = (0, 1),
    augment: Stage | None = None,
    service: Service | None = None,
) -> tf.data.Dataset:
    """Batches ((image [B, ...], target_in int32 [B, T]), target_out int32 [B, T]).

    Images are the arrays of `store`. `target_in` begins with the start id, `target_out` ends with
    the end id, and both are padded with 0. With a seed, captions of similar length are together,
    and every epoch has another order. Without a seed they keep their order.

    Args:
        examples: captions; `store` must have been filled with their images.
        batch_size: number of captions in a batch.
        seed, position, pad_to_multiple, shard: as in `batching.batches`.
        augment: changes the images, for example by stages of `augmentation`.
        service: the data service that reads and augments; by default this process does.

    Raises:
        InputError: when an argument is out of range.
    """
    make = _reader(examples, store)
    ids = tf.TensorSpec([None, None], tf.int32)
    signature = ((tf.TensorSpec([None, *store.spec.shape], store.spec.dtype), ids), ids)
    options = {"batch_size": batch_size, "seed": seed, "pad_to_multiple": pad_to_multiple}
    reading = {"position": position, "shard": shard, "service": service, "stage": augment}
    reading["check"] = lambda indices: store.check([examples.images[i] for i in indices])
    return planned_batches(examples, make, signature, **reading, **options).prefetch(2)


def _reader(examples: Examples, store: Store) -> Callable:
    """The `make` of `planned_batches` for captions."""
    files = [str(store.file(path).absolute()) for path in examples.images]
    read_ids = functools.partial(pieces, np.concatenate(examples.ids))
    counts = examples.target_lengths
    starts = np.cumsum([0, *counts])[:-1]

    def make(part: Part):
        where = [tf.gather(column, part.indices) for column in (starts, counts)]
        target_in, target_out = teacher_forcing(read_ids, *where, part.rows, part.lengths[1])
        images = store.arrays(tf.gather(files, part.indices))
        return (at_top(images, part.rows), target_in), target_out

    return make
