"""Silences log messages of an export that do not concern its user."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

# TensorFlow cannot write the collection of table initializers. It is not needed: the graph runs
# the initializers itself.
TABLES = "Issue encountered when serializing table_initializer"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this context tf2onnx logs nothing, and TensorFlow does not log `TABLES`.

    Errors that tf2onnx logs still appear: it raises them too, with a traceback for each place that
    they passed, or it leaves an operator that ONNX lacks, which `onnx_file.convert` reports. Its
    warnings are about inefficient operators; `verify` checks whether the result is right.
    """
    tf2onnx, tensorflow = logging.getLogger("tf2onnx"), logging.getLogger("tensorflow")
    level = tf2onnx.level
    tf2onnx.setLevel(logging.CRITICAL)
    tensorflow.addFilter(_is_relevant)
    try:
        yield
    finally:
        tensorflow.removeFilter(_is_relevant)
        tf2onnx.setLevel(level)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether TensorFlow's message is worth showing."""
    return not record.getMessage().startswith(TABLES)
