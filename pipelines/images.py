"""Image files -> pixels, what cannot be used named; arrays made of images, kept on disk.

h, w: height and width of an image; B batch. An image is JPEG or PNG; all become colour, 8 bits a
channel.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged, creating, remove_abandoned, stamp
from kerasrnn.pipelines.reports import Tally

MOST_PIXELS = 89_478_485  # Pillow's own limit
MOST_BYTES = 1 << 29  # of a file: more than so many pixels take without any compression
MISSING, UNREADABLE, EMPTY = "missing", "cannot be read", "zero bytes"
NO_IMAGE, FOREIGN, BROKEN = "not an image", "not JPEG or PNG", "broken or truncated"
LARGE = "too large"
FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a camera's JPEG with a preview behind it
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class ImageError(InputError):
    """What is wrong with one image.

    Attributes:
        path: the file.
        reason: "missing", "zero bytes", "too large" …: one of the words at the top of this file.

    >>> print(ImageError(Path("a.jpg"), EMPTY))
    image: expected a JPEG or PNG, got a.jpg (zero bytes); mend it or leave it out
    """

    def __init__(self, path: Path, reason: str):
        super().__init__("image", "a JPEG or PNG", f"{path} ({reason})", "mend it or leave it out")
        self.path, self.reason = path, reason


def _content(path: Path) -> bytes:
    """The file's bytes, of which there are some."""
    try:
        if not path.exists():
            raise ImageError(path, MISSING)
        if not path.is_file():  # a pipe would be waited for
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
    """Why an image cannot be used, as far as its header tells; "" where it can."""
    if image.width * image.height > MOST_PIXELS:
        return LARGE
    return "" if image.format in FORMATS else FOREIGN


def _loaded(path: Path, content: bytes) -> Image.Image:
    """The image that these bytes are; nothing is decoded before its header is found good."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        if not (fault := _fault(image)):
            image.load()
            return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, LARGE) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever Pillow's parsers stumble over
        fault = BROKEN if content.startswith(BEGINNINGS) else NO_IMAGE
        raise ImageError(path, fault) from error
    raise ImageError(path, fault)


def _pixels(path: Path, content: bytes) -> np.ndarray:
    """The pixels of an image file's bytes, uint8 [h, w, 3]."""
    image = _loaded(path, content)
    if image.mode.startswith("I"):  # 16 bits of grey, which `convert` would cut at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def read_image(path: str | Path) -> np.ndarray:
    """The pixels of a JPEG or PNG file, uint8 [h, w, 3].

    Grey and CMYK become RGB, 16 bits a channel their upper 8, a palette its colours. Of an
    animation the first picture is read. What is transparent shows white behind it. EXIF's
    orientation is not followed, as TensorFlow's decoder does not follow it.

    Raises:
        ImageError: when it is missing, empty, broken, not JPEG or PNG, or has more than
            `MOST_PIXELS` (seen before anything is decoded).

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five.png"
    >>> Image.fromarray(np.arange(15, dtype=np.uint8).reshape(1, 5, 3)).save(path)
    >>> read_image(path)[0, :, 0].tolist()
    [0, 3, 6, 9, 12]
    """
    path = Path(path)
    return _pixels(path, _content(path))


@dataclass
class ImageReport(Tally):
    """What became of the images, for people; places are paths.

    >>> report = ImageReport(kept=5)
    >>> report.drop(BROKEN, "images/a.jpg")
    >>> print(report)
    5 images; 1 dropped: 1 broken or truncated (images/a.jpg)
    """

    def __str__(self) -> str:
        return f"{self.kept:,} images{self.losses()}"


def usable(captioned: Iterable, *, strict: bool = False) -> tuple[list, ImageReport]:
    """Those of `captioned` whose image can be read, in order; each image is read once.

    Args:
        captioned: what has an `image`, a path.
        strict: refuse at the first faulty image.

    Raises:
        InputError: when no image can be used; with `strict`, `ImageError` about the first fault.
    """
    kept, report = [], ImageReport()
    for one in captioned:
        try:
            read_image(one.image)
        except ImageError as error:
            if strict:
                raise
            report.drop(error.reason, str(one.image))
        else:
            report.kept += 1
            kept.append(one)
    if not kept:
        raise InputError("images", "images that can be used", report, "give others")
    return kept, report


class Store:
    """Arrays made of images, one file an image: `folder/NAME/<SHA-256 of its bytes>.npy`.

    Pixels brought to one size, or the features of a frozen network. The images' names do not
    matter: the same bytes are made once, changed bytes are made again.

    Args:
        folder: where.
        name: of what `make` does: another name, other files.
        make: uint8 [h, w, 3] -> an array, of one shape for all images; one image at a time.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.fromarray(np.arange(15, dtype=np.uint8).reshape(1, 5, 3)).save(folder / "five.png")
    >>> store = Store(folder, "reds", lambda pixels: pixels[0, :, 0])
    >>> store.fill([folder / "five.png"])
    >>> store.read([folder / "five.png"]).tolist()
    [[0, 3, 6, 9, 12]]
    """

    def __init__(self, folder: str | Path, name: str, make: Callable[[np.ndarray], np.ndarray]):
        self.folder, self.make = Path(folder) / name, make
        self._files: dict[Path, tuple[Path, Stamp]] = {}

    def fill(self, paths: Iterable[str | Path]) -> None:
        """Make what is missing; each file appears whole or not at all.

        Several processes may fill one folder; each array that is there stays as it is.

        Raises:
            ImageError: about the first image that cannot be used.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        for path in dict.fromkeys(map(Path, paths)):
            content = _content(path)
            file = self.folder / f"{hashlib.sha256(content).hexdigest()}.npy"
            if not file.exists():
                array = np.asarray(self.make(_pixels(path, content)))
                with creating(file) as beside:
                    np.save(beside, array, allow_pickle=False)
            self._files[path] = file, stamp(file)

    def read(self, paths: Sequence[str | Path]) -> np.ndarray:
        """The arrays of images that `fill` has seen, [B, ...].

        Raises:
            InputError: when it has not seen one, or an array's file is gone, broken or changed.
        """
        return np.stack([self._array(Path(path)) for path in paths])

    def file(self, path: Path) -> Path:
        """Where the array of an image that `fill` has seen lies."""
        if path not in self._files:
            raise InputError("image", "one that the store was filled with", path, "fill it first")
        return self._files[path][0]

    def _array(self, path: Path) -> np.ndarray:
        file = self.file(path)
        next_step = f"remove {self.folder} and fill again"
        check_unchanged(file, self._files[path][1], "image", next_step)
        try:
            return np.load(file)
        except (OSError, ValueError, EOFError) as error:
            received = f"{file} ({getattr(error, 'strerror', None) or error})"
            raise InputError("image", "a whole file of the store", received, next_step) from error
