"""The metadata of an artifact: inside an ONNX file, or as JSON beside a SavedModel."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export.graphs.text import OPSET

FILE = Path("assets.extra") / "kerasrnn.json"
PACKAGES = ("kerasrnn", "keras", "tensorflow")


def metadata_of(served, more: dict[str, str]) -> dict[str, str]:
    """Task, tokenizers, search, opset and versions, and the caller's entries `more`."""
    search = {}
    if hasattr(served, "rules"):
        search = {"rules": dataclasses.asdict(served.rules), "max_length": served.max_length}
    return {
        "task": served.task,
        "tokenizer": ", ".join(tokenizer.level for tokenizer in served.tokenizers),
        "search": json.dumps(search),
        "opset": str(OPSET),
        # A nightly Keras has another distribution name: the modules know their versions.
        **{name: importlib.import_module(name).__version__ for name in PACKAGES},
        **more,
    }


def search_in(metadata: dict[str, str]) -> dict:
    """The `rules` and `max_length` in an artifact's metadata; none for a language model."""
    search = json.loads(metadata.get("search", "{}"))
    if "rules" in search:
        rules = search["rules"]
        # JSON turned the tuple of banned ids into a list.
        search["rules"] = BeamRules(**{**rules, "banned": tuple(rules["banned"])})
    return search


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the metadata of an ONNX file or a SavedModel.

    Raises:
        InputError: when `path` is neither, or has no metadata of ours.
    """
    path = Path(path)
    metadata = {}
    if path.is_file() and path.suffix == ".onnx":
        try:
            model = onnx.load(path, load_external_data=False)
        except DecodeError as error:
            received = f"{path} ({error})"
            raise InputError("EXPORT", "a whole ONNX file", received, "export it again") from error
        metadata = {entry.key: entry.value for entry in model.metadata_props}
    elif (path / FILE).is_file():
        metadata = json.loads((path / FILE).read_text(encoding="utf-8"))
    if "task" not in metadata:
        raise InputError("EXPORT", "what `kerasrnn export` wrote", path, "export it again")
    return metadata
