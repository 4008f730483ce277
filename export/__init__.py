"""Trained models -> SavedModel and ONNX, checked. `runner.py` runs them without kerasrnn."""

from kerasrnn.base.lazy import lazy

_PLACES = {
    "FORMATS": "kerasrnn.export.artifact",
    "VerificationError": "kerasrnn.export.verify",
    "export": "kerasrnn.export.artifact",
    "load": "kerasrnn.export.runner",
    "onnx": "kerasrnn.export.keras_model",
    "quantize": "kerasrnn.export.quantization",
    "read_metadata": "kerasrnn.export.metadata",
    "verify_export": "kerasrnn.export.artifact",
}
__all__ = list(_PLACES)
__getattr__, __dir__ = lazy(__name__, _PLACES)
