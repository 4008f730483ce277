"""HDF5 files of weights that somebody else made: what they must not hold."""

from __future__ import annotations

from pathlib import Path

import h5py

from kerasrnn.base.errors import NEVER, InputError
from kerasrnn.base.files import unpacks_too_far

SHOWN = 100  # characters of a name in a message


def check_weights(file: Path, argument: str) -> None:
    """Look through a file of weights alone, where it is HDF5 (InputError about `argument`)."""
    if h5py.is_hdf5(file) and (fault := weights_fault(file, file.stat().st_size)):
        raise InputError(argument, "weights alone", f"{file}, {fault}", NEVER)


def weights_fault(file, size: int) -> str:
    """Links, arrays that lie elsewhere, arrays that are larger than the `size` bytes stored."""
    total, links = 0, []
    with h5py.File(file, "r") as weights:
        weights.visititems_links(lambda path, link: links.append((path, link)))
        for path, link in links:
            if not isinstance(link, h5py.HardLink):
                return f"whose weights {path[:SHOWN]} are a {type(link).__name__}"
            found = weights[path]
            if not isinstance(found, h5py.Dataset):
                continue
            if found.external or found.is_virtual:
                return f"whose weights {path[:SHOWN]} lie in another file"
            if found.dtype.kind not in "biufcV":
                return f"whose weights {path[:SHOWN]} are {found.dtype}"
            total += found.nbytes
    if unpacks_too_far(total, size):
        return f"whose weights would fill {total:,} bytes of {size:,}"
    return ""
