"""Check a `.keras` file from a stranger before Keras opens it.

Keras makes an object of every `class_name` in the file's `config.json`. Here each must be a class
of Keras, of kerasrnn, or of a package that the user names (`--import`). A file that would run a
program, read another file or fill the disk is refused.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import keras

from kerasrnn.base.errors import NEVER, InputError
from kerasrnn.base.files import TIMES, unpacks_too_far
from kerasrnn.base.weights_files import weights_fault
from kerasrnn.compat.keras import is_inner

CONFIG, METADATA, WEIGHTS, ASSETS = "config.json", "metadata.json", "model.weights.h5", "assets"
SHOWN = 100  # characters of a name in a message

KINDS = ("constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models")
KINDS += ("optimizers", "optimizers.schedules", "regularizers")
CLASSES = {"keras", *(f"keras.{kind}" for kind in KINDS)}
FUNCTIONS = {"builtins", "keras.activations", "keras.losses", "keras.metrics"}
VALUES = {
    f"__{name}__" for name in ("bytes", "ellipsis", "keras_tensor", "numpy", "slice", "tensor")
}
# Keras saves an object whose class was extended in place under the class's name inside
# `keras.src`. Such a name is trusted for these kinds of objects.
SAVED = (
    keras.Operation,
    keras.constraints.Constraint,
    keras.initializers.Initializer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.regularizers.Regularizer,
)
# These hold or load programs: pickled Python, marshalled Python, a TensorFlow graph.
PROGRAMS = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper"}
# Keras never saves these options. In a file they would make a layer read a file or the network.
FILES = {"vocabulary", "weights"}

_packages = {"kerasrnn", "keras"}


class Untrusted(InputError):
    """A model file is refused because of what loading it would do."""

    def __init__(self, file: Path, reason: str, next_step: str = NEVER):
        expected = "a model of classes of kerasrnn and Keras"
        super().__init__("RUN", expected, f"{file}, {reason}", next_step)


def import_packages(names: list[str]) -> None:
    """Import packages and trust the classes that they register from now on.

    Raises:
        InputError: when a package cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        # ValueError and TypeError come from texts that are no module name, as "" or ".a".
        except (ImportError, ValueError, TypeError) as error:
            expected = "a package that Python can import"
            received = f"{name} ({error})"
            raise InputError("--import", expected, received, "install it") from error
        trust_package(name)


def trust_package(name: str) -> None:
    """Trust the classes of an imported package."""
    _packages.add(name.split(".")[0])


def check_model(file: Path) -> None:
    """Check everything that a `.keras` file names, without running or unpacking it.

    Args:
        file: the `.keras` file, a ZIP archive.

    Raises:
        Untrusted: when loading it would run, read or fill something; the message names it.
        ValueError, OSError, KeyError, zipfile.BadZipFile: when the file is damaged.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError("the file is damaged")
    with zipfile.ZipFile(file) as archive:
        _check_members(file, archive)
        for part in _parts(json.loads(archive.read(CONFIG))):
            if isinstance(part, str):
                _check_name(file, part)
            else:
                _check_part(file, part)
        weights = archive.read(WEIGHTS)
        if fault := weights_fault(io.BytesIO(weights), len(weights)):
            raise Untrusted(file, fault)


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    """Refuse files in the archive that Keras does not write, and too much data."""
    size, names = 0, set()
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        expected = path.parts[:1] == (ASSETS,) or member.filename in (CONFIG, METADATA, WEIGHTS)
        # The upper four bits are Unix's file type, 0xA is a symbolic link. A link, ".." or "\"
        # could lead Keras to files outside the folder into which it unpacks.
        is_link = member.external_attr >> 28 == 0xA
        if not expected or ".." in path.parts or "\\" in member.filename or is_link:
            raise Untrusted(file, f"which holds {_shortened(member.filename)}")
        if member.filename in names:
            raise Untrusted(file, f"which holds {_shortened(member.filename)} twice")
        names.add(member.filename)
        size += member.file_size
    if unpacks_too_far(size, file.stat().st_size):
        reason = f"which would unpack to {size:,} bytes, more than {TIMES} times its own"
        raise Untrusted(file, reason)


def _parts(config) -> Iterator[dict | str]:
    """Yield every string in a configuration and every dict with a `class_name`."""
    queue = [config]
    while queue:
        part = queue.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            queue += part
        elif isinstance(part, dict):
            queue += part.values()
            if "class_name" in part:
                yield part


def _check_name(file: Path, name: str) -> None:
    """Refuse a string that names a registered object of an untrusted package.

    Keras finds a registered function also by its bare name, "PACKAGE>FUNCTION".
    """
    registered = keras.saving.get_registered_object(name) if ">" in name else None
    if registered is not None and not _is_trusted(registered):
        raise Untrusted(file, *_foreign_package(registered.__module__, name))


def _check_part(file: Path, part: dict) -> None:
    """Check one object of the configuration, found in the order in which Keras finds it."""
    name, module, config = part["class_name"], part.get("module"), part.get("config")
    cell = config.get("cell") if isinstance(config, dict) else None
    if isinstance(cell, str) and ">" in cell and not keras.saving.get_registered_object(cell):
        raise Untrusted(file, *_foreign_package(None, cell))
    if isinstance(name, str) and name in VALUES:
        return
    is_function = name == "function"
    registered_name = part.get("registered_name") or name
    if is_function:
        # Keras says "function" as the registered name of a function that has one.
        name = registered_name = config
    if not (isinstance(name, str) and isinstance(registered_name, str)):
        raise Untrusted(file, f"whose configuration names {_shortened(name)}")
    registered = keras.saving.get_registered_object(registered_name)
    if registered is not None:
        if not _is_trusted(registered):
            raise Untrusted(file, *_foreign_package(registered.__module__, registered_name))
    elif ">" in registered_name:
        raise Untrusted(file, *_foreign_package(module, registered_name))
    elif not _is_builtin(name, module, is_function):
        raise Untrusted(file, f"which names {_shortened(f'{module}.{name}')}")
    # In a package that the user trusts these options may mean something else.
    is_ours = registered is None or registered.__module__.startswith("kerasrnn.")
    for option in FILES & config.keys() if is_ours and isinstance(config, dict) else ():
        if isinstance(config[option], str):
            reason = f"whose {_shortened(name)} would read {_shortened(config[option])}"
            raise Untrusted(file, reason)


def _is_trusted(registered) -> bool:
    """Return whether a registered class or function comes from a trusted package."""
    return registered.__module__.split(".")[0] in _packages


def _is_builtin(name: str, module, is_function: bool) -> bool:
    """Return whether a name is a class or function of Keras that runs no program of the file."""
    if not name.isidentifier() or not isinstance(module, str) or name in PROGRAMS:
        return False
    if is_function:
        return module in FUNCTIONS
    # Look only into modules that are loaded already: importing a module runs it.
    keras_class = getattr(sys.modules.get(module), name, None)
    if not isinstance(keras_class, type) or keras_class.__name__ in PROGRAMS:
        return False
    inner = is_inner(module) and issubclass(keras_class, SAVED)
    return module in CLASSES or inner


def _foreign_package(module, registered_name: str) -> tuple[str, str]:
    """Say why an object of another package is refused, and what the user can do."""
    package, _, name = registered_name.partition(">")
    root = module.split(".")[0] if isinstance(module, str) else ""
    package = root if root.isidentifier() else package
    reason = f"which needs {_shortened(name)} of the package {_shortened(package)}"
    if package in _packages:
        return f"{reason}, which has none", NEVER
    return reason, f"say --import {_shortened(package)} if you trust it"


def _shortened(name) -> str:
    """Return a name from the file, shortened for a message."""
    return str(name)[:SHOWN]
