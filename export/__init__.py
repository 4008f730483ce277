"""Trained models -> SavedModel and ONNX, checked."""

from importlib import import_module

_PLACES = {
    "FORMATS": "kerasrnn.export.artifact",
    "VerificationError": "kerasrnn.export.verify",
    "export": "kerasrnn.export.artifact",
    "load": "kerasrnn.export.runner",
}
__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
