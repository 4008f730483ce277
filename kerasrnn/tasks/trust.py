"""A `.keras` file of somebody else: what it would run, read or fill is refused unopened.

Keras makes an object of every `class_name` in the file's `config.json`. Here each must be a class
of Keras, of kerasrnn, or of a package that the user names (`--import`).
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
# A part that was extended in place is saved under Keras's inner name of its class.
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
# Options that are never saved, and that make a layer read a file or the network.
FILES = {"vocabulary", "weights"}

_packages = {"kerasrnn", "keras"}


class Untrusted(InputError):
    """A file that would run, read or fill what it must not."""

    def __init__(self, file: Path, reason: str, next_step: str = NEVER):
        expected = "a model of classes of kerasrnn and Keras"
        super().__init__("RUN", expected, f"{file}, {reason}", next_step)


def import_packages(names: list[str]) -> None:
    """Import packages; from now on the classes that they register may stand in a model.

    Raises:
        InputError: when there is no such package.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, ValueError, TypeError) as error:  # a name may be none
            expected = "a package that Python can import"
            received = f"{name} ({error})"
            raise InputError("--import", expected, received, "install it") from error
        _packages.add(name.split(".")[0])


def check_model(file: Path) -> None:
    """Look through a `.keras` file; nothing of it is run or written.

    Raises:
        Untrusted: naming what would be run, read or filled.
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
    size, names = 0, set()
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        known = path.parts[:1] == (ASSETS,) or member.filename in (CONFIG, METADATA, WEIGHTS)
        is_link = member.external_attr >> 28 == 0xA  # the file type of Unix
        if not known or ".." in path.parts or "\\" in member.filename or is_link:
            raise Untrusted(file, f"which holds {_shown(member.filename)}")
        if member.filename in names:
            raise Untrusted(file, f"which holds {_shown(member.filename)} twice")
        names.add(member.filename)
        size += member.file_size
    if unpacks_too_far(size, file.stat().st_size):
        reason = f"which would unpack to {size:,} bytes, more than {TIMES} times its own"
        raise Untrusted(file, reason)


def _parts(config) -> Iterator[dict | str]:
    """Every dict with a class in it, and every string."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
            if "class_name" in part:
                yield part


def _check_name(file: Path, name: str) -> None:
    """A registered function is also found by its bare name."""
    found = keras.saving.get_registered_object(name) if ">" in name else None
    if found is not None and not _is_trusted(found):
        raise Untrusted(file, *_foreign(found.__module__, name))


def _check_part(file: Path, part: dict) -> None:
    """One object of the configuration, as Keras would look for it."""
    name, module, config = part["class_name"], part.get("module"), part.get("config")
    if isinstance(name, str) and name in VALUES:
        return
    is_function = name == "function"
    registered = part.get("registered_name") or (config if is_function else name)
    name = config if is_function else name
    if not (isinstance(name, str) and isinstance(registered, str)):
        raise Untrusted(file, f"whose configuration names {_shown(name)}")
    found = keras.saving.get_registered_object(registered)
    if found is not None:
        if not _is_trusted(found):
            raise Untrusted(file, *_foreign(found.__module__, registered))
    elif ">" in registered:
        raise Untrusted(file, *_foreign(module, registered))
    elif not _is_builtin(name, module, is_function):
        raise Untrusted(file, f"which names {_shown(f'{module}.{name}')}")
    known = found is None or found.__module__.startswith("kerasrnn.")
    for option in FILES & config.keys() if known and isinstance(config, dict) else ():
        if isinstance(config[option], str):
            reason = f"whose {_shown(name)} would read {_shown(config[option])}"
            raise Untrusted(file, reason)


def _is_trusted(found) -> bool:
    return found.__module__.split(".")[0] in _packages


def _is_builtin(name: str, module, is_function: bool) -> bool:
    """Whether a name is one of Keras's parts of a model, and no program."""
    if not name.isidentifier() or not isinstance(module, str) or name in PROGRAMS:
        return False
    if is_function:
        return module in FUNCTIONS
    # What is not loaded stays so: importing a module runs it.
    found = getattr(sys.modules.get(module), name, None)
    if not isinstance(found, type) or found.__name__ in PROGRAMS:
        return False
    inner = is_inner(module) and issubclass(found, SAVED)
    return module in CLASSES or inner


def _foreign(module, registered: str) -> tuple[str, str]:
    """What is wrong with a class of a package that was not named, and what to do."""
    package, _, name = registered.partition(">")
    root = module.split(".")[0] if isinstance(module, str) else ""
    package = root if root.isidentifier() else package
    reason = f"which needs {_shown(name)} of the package {_shown(package)}"
    if package in _packages:
        return f"{reason}, which has none", NEVER
    return reason, f"say --import {_shown(package)} if you trust it"


def _shown(name) -> str:
    return str(name)[:SHOWN]
