"""The metadata of an artifact: inside an ONNX file, or as JSON beside a SavedModel."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export.graphs.text import OPSET
from kerasrnn.export.runner import METADATA
from kerasrnn.kinds import KINDS, Place, described, place_of
from kerasrnn.text.tokenizers import TOKENIZERS, Tokenizer

PACKAGES = ("kerasrnn", "keras", "tensorflow")


def metadata_of(served, more: dict[str, str]) -> dict[str, str]:
    """What the artifact is, takes and gives, how it searches, the versions, and `more`."""
    return {
        "task": served.task,
        "title": served.title or served.task.capitalize(),
        "takes": json.dumps(described(served.takes), ensure_ascii=False),
        "gives": json.dumps(described(served.gives), ensure_ascii=False),
        "scores": json.dumps(described(served.scoring.takes if served.scoring else ())),
        "tokenizer": ", ".join(tokenizer.level for tokenizer in served.tokenizers),
        "search": json.dumps(served.search),
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


def places_in(metadata: dict[str, str], name: str) -> list[Place]:
    """Inputs or outputs that an artifact's metadata says: those of "takes", "gives" or "scores"."""
    return [place_of(row, KINDS) for row in json.loads(metadata.get(name, "[]"))]


def tokenizers_of(served) -> dict[str, str]:
    """The tokenizers of a served model as an entry of its metadata; see `tokenizers_in`."""
    rows = [{"level": tokenizer.level, **tokenizer.get_config()} for tokenizer in served.tokenizers]
    return {"tokenizers": json.dumps(rows, ensure_ascii=False)}


def tokenizers_in(metadata: dict[str, str]) -> list[Tokenizer]:
    """The tokenizers that an artifact's metadata holds."""
    rows = json.loads(metadata.get("tokenizers", "[]"))
    return [TOKENIZERS[row.pop("level")].from_config(row) for row in rows]


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
    elif (path / METADATA).is_file():
        metadata = json.loads((path / METADATA).read_text(encoding="utf-8"))
    if "task" not in metadata:
        raise InputError("EXPORT", "what `kerasrnn export` wrote", path, "export it again")
    return metadata
