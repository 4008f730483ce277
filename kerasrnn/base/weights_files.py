"""Checks HDF5 files of weights from somebody else for contents that could do harm."""

from __future__ import annotations

from pathlib import Path

import h5py

from kerasrnn.base.errors import NEVER, InputError
from kerasrnn.base.files import unpacks_too_far

SHOWN = 100  # characters of a name that a message quotes


def check_weights(file: Path, argument: str) -> None:
    """Raise InputError about `argument` when an HDF5 file holds more than plain weights.

    Files in other formats are not examined.
    """
    if h5py.is_hdf5(file) and (fault := weights_fault(file, file.stat().st_size)):
        raise InputError(argument, "weights alone", f"{file}, {fault}", NEVER)


def weights_fault(file, size: int) -> str:
    """The fault of an HDF5 file of `size` bytes as a clause for a message; "" where it is sound.

    Faults are links, arrays that lie in another file, arrays that do not hold numbers, and arrays
    that unpack to far more than the file's size.
    """
    total, links = 0, []
    with h5py.File(file, "r") as weights:
        weights.visititems_links(lambda path, link: links.append((path, link)))
        for path, link in links:
            if not isinstance(link, h5py.HardLink):
                return f"whose weights {path[:SHOWN]} are a {type(link).__name__}"
            item = weights[path]
            if not isinstance(item, h5py.Dataset):
                continue
            if item.external or item.is_virtual:
                return f"whose weights {path[:SHOWN]} lie in another file"
            # "V": h5py reads a bfloat16 array so.
            if item.dtype.kind not in "biufcV":
                return f"whose weights {path[:SHOWN]} are {item.dtype}"
            total += item.nbytes
    if unpacks_too_far(total, size):
        return f"whose weights would fill {total:,} bytes of {size:,}"
    return ""
