"""Reads image files as pixels, names the fault of unusable ones, and stores arrays made of images.

h, w: height and width of an image; B batch. An image is JPEG or PNG; all become RGB with 8 bits a
channel.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged, creating, remove_abandoned, stamp
from kerasrnn.pipelines.reports import Tally

MOST_PIXELS = 89_478_485  # Pillow's own limit
MOST_BYTES = 1 << 29  # of a file: more than MOST_PIXELS take without compression
MISSING, UNREADABLE, EMPTY = "missing", "cannot be read", "zero bytes"
NO_IMAGE, FOREIGN, BROKEN = "not an image", "not JPEG or PNG", "broken or truncated"
LARGE = "too large"
FORMATS = ("JPEG", "MPO", "PNG")  # MPO: a camera's JPEG with a preview behind it
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


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


def _content(path: Path) -> bytes:
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


def _pixels(path: Path, content: bytes) -> np.ndarray:
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
    return _pixels(path, _content(path))


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


def _holds_array(file: Path) -> bool:
    """Whether the file is there and whole; one may be cut short by a copy or a failing disk."""
    try:
        np.load(file, mmap_mode="r")
    except (FileNotFoundError, ValueError, EOFError):
        return False
    return True


class Store:
    """Arrays made of images, one file for each: `folder/NAME/<SHA-256 of the image's bytes>.npy`.

    They are pixels of one size, or features of a frozen network. The images' names do not matter:
    equal files share one array, and a changed file gets a new one.

    Args:
        folder: where the arrays are stored.
        name: name of what `make` does; arrays of different names are separate.
        make: a function from uint8 [h, w, 3] to an array; its shape is the same for all images.

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
        """Make the arrays that are missing or broken; each file appears complete or not at all.

        Several processes may fill one folder; whole arrays stay as they are.

        Raises:
            ImageError: about the first image that cannot be used.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        for path in dict.fromkeys(map(Path, paths)):
            content = _content(path)
            file = self.folder / f"{hashlib.sha256(content).hexdigest()}.npy"
            if not _holds_array(file):
                file.unlink(missing_ok=True)
                array = np.asarray(self.make(_pixels(path, content)))
                with creating(file) as beside:
                    # `arrays` reads the values as they lie: rows first, also of a transposed array.
                    np.save(beside, np.ascontiguousarray(array), allow_pickle=False)
            self._files[path] = file, stamp(file)

    def read(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Read the arrays of images that `fill` has seen, [B, ...].

        Raises:
            InputError: when `fill` has not seen an image, or an array's file is missing, broken or
                changed.
        """
        paths = [Path(path) for path in paths]
        self.check(paths)
        return self.arrays([str(self.file(path)) for path in paths]).numpy()

    def arrays(self, files) -> tf.Tensor:
        """Graph code: the arrays in these files of the store, string [B] -> [B, ...]."""
        spec = self.spec
        size = spec.dtype.size * spec.shape.num_elements()

        def read(file):
            # The array is the end of the .npy file: its size is known, the header's size is not.
            content = tf.strings.substr(tf.io.read_file(file), -size, size)
            return tf.reshape(tf.io.decode_raw(content, spec.dtype), spec.shape)

        return tf.map_fn(read, tf.convert_to_tensor(files), fn_output_signature=spec)

    @functools.cached_property
    def spec(self) -> tf.TensorSpec:
        """Shape and type of every array, as the first file says."""
        file, _ = next(iter(self._files.values()))
        try:
            array = np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise self._broken(file, getattr(error, "strerror", None) or error) from error
        return tf.TensorSpec(array.shape, array.dtype)

    def check(self, paths: Iterable[Path]) -> None:
        """Raise InputError when an array's file is missing, broken or changed since `fill`."""
        _, (first_size, _) = next(iter(self._files.values()))
        for path in paths:
            file = self.file(path)
            _, before = self._files[path]
            check_unchanged(file, before, "image", self._again)
            if before[0] != first_size:
                raise self._broken(file, f"{before[0]:,} bytes, others have {first_size:,}")

    def _broken(self, file: Path, reason) -> InputError:
        """The error about a file that does not hold an array."""
        return InputError("image", "a whole file of the store", f"{file} ({reason})", self._again)

    @property
    def _again(self) -> str:
        return f"remove {self.folder} and fill again"

    def file(self, path: Path) -> Path:
        """The path of an image's array; `fill` must have seen the image."""
        if path not in self._files:
            raise InputError("image", "one that the store was filled with", path, "fill it first")
        return self._files[path][0]
