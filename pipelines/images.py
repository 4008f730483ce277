"""Reads image files as pixels and names the fault of unusable ones.

An image is JPEG or PNG, of height h and width w. All become RGB with 8 bits a channel.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.base.lazy import lazy
from kerasrnn.pipelines.reports import Tally

MOST_PIXELS = 89_478_485  # Pillow's own limit
MOST_BYTES = 1 << 29  # of a file: more than MOST_PIXELS take without compression
MISSING, UNREADABLE, EMPTY = "missing", "cannot be read", "zero bytes"
NO_IMAGE, FOREIGN, BROKEN = "not an image", "not JPEG or PNG", "broken or truncated"
LARGE = "too large"
FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a camera's JPEG with a preview behind it
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

__getattr__, _ = lazy(__name__, {"Store": "kerasrnn.pipelines.store"})  # it was here once


class ImageError(InputError):
    """The fault of one image.

    Attributes:
        path: the file.
        reason: "missing", "zero bytes", "too large" …: a constant of this module.

    >>> print(ImageError(Path("a.jpg"), EMPTY))
    image: expected a JPEG or PNG, got a.jpg (zero bytes); mend it or leave it out
    """

    def __init__(self, path: Path, reason: str):
        super().__init__("image", "a JPEG or PNG", f"{path} ({reason})", "mend it or leave it out")
        self.path, self.reason = path, reason


def file_content(path: Path) -> bytes:
    """The bytes of a file that exists and is not empty."""
    try:
        if not path.exists():
            raise ImageError(path, MISSING)
        if not path.is_file():  # reading a pipe would block
            raise ImageError(path, UNREADABLE)
        if path.stat().st_size > MOST_BYTES:
            raise ImageError(path, LARGE)
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(path, UNREADABLE) from error
    if not content:
        raise ImageError(path, EMPTY)
    return content


def _fault(image: Image.Image) -> str:
    """Why an image cannot be used, from its header alone; "" when it can."""
    if image.width * image.height > MOST_PIXELS:
        return LARGE
    return "" if image.format in FORMATS else FOREIGN


def _loaded(path: Path, content: bytes) -> Image.Image:
    """Decode an image after its header has been checked."""
    try:
        with warnings.catch_warnings():
            # Pillow warns from `MOST_PIXELS` on, and raises from twice as many.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        if not (fault := _fault(image)):
            image.load()
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, LARGE) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise errors of many kinds
        fault = BROKEN if content.startswith(BEGINNINGS) else NO_IMAGE
        raise ImageError(path, fault) from error
    raise ImageError(path, fault)


def pixels_of(path: Path, content: bytes) -> np.ndarray:
    """The pixels in an image file's content, uint8 [h, w, 3]."""
    image = _loaded(path, content)
    if image.mode.startswith("I"):  # 16-bit grey, which `convert` would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_image(path: str | Path) -> np.ndarray:
    """Read the pixels of a JPEG or PNG file, uint8 [h, w, 3].

    Grey, CMYK and palette images become RGB; of 16 bits a channel the upper 8 are kept. Of an
    animation the first picture is read. Transparent parts show white. The EXIF orientation is
    ignored, as in TensorFlow's decoder.

    Raises:
        ImageError: when the file is missing, empty, broken, not JPEG or PNG, or has more than
            `MOST_PIXELS`, which is checked before decoding.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five.png"
    >>> Image.fromarray(np.arange(15, dtype=np.uint8).reshape(1, 5, 3)).save(path)
    >>> read_image(path)[0, :, 0].tolist()
    [0, 3, 6, 9, 12]
    """
    path = Path(path)
    return pixels_of(path, file_content(path))


@dataclass
class ImageReport(Tally):
    """Counts of images kept and dropped, for people; places are paths.

    >>> report = ImageReport(kept=5)
    >>> report.drop(BROKEN, "images/a.jpg")
    >>> print(report)
    5 images; 1 dropped: 1 broken or truncated (images/a.jpg)
    """

    def __str__(self) -> str:
        return f"{self.kept:,} images{self.losses()}"


def usable(captioned: Iterable, *, strict: bool = False) -> tuple[list, ImageReport]:
    """The elements of `captioned` whose image can be read, in order, and a report.

    Args:
        captioned: objects with an attribute `image`, a path.
        strict: whether to raise at the first faulty image instead of dropping it.

    Raises:
        InputError: when no image can be used; with `strict`, `ImageError` about the first fault.
    """
    kept, report = [], ImageReport()
    for entry in captioned:
        try:
            read_image(entry.image)
        except ImageError as error:
            if strict:
                raise
            report.drop(error.reason, str(entry.image))
        else:
            report.kept += 1
            kept.append(entry)
    if not kept:
        raise InputError("images", "images that can be used", report, "give others")
    return kept, report
