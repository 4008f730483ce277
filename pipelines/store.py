"""Stores arrays made of images, and reads them in `tf.data`. h, w: height and width; B batch."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.base.files import Stamp, check_unchanged, creating, remove_abandoned, stamp
from kerasrnn.pipelines.images import file_content, pixels_of


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
    >>> from PIL import Image
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
            content = file_content(path)
            file = self.folder / f"{hashlib.sha256(content).hexdigest()}.npy"
            if not _holds_array(file):
                file.unlink(missing_ok=True)
                array = np.asarray(self.make(pixels_of(path, content)))
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
