"""What libraries log of an export that is no concern of its user."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

# Of a table's initializer no collection is written, nor needed: the graph runs it.
TABLES = "Issue encountered when serializing table_initializer"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within this context tf2onnx logs nothing, and TensorFlow not that it skips `TABLES`.

    What tf2onnx logs as an error it raises too, with a traceback for each place that it passed; or
    an operator is left that ONNX has not, which `onnx_file.convert` names. Its warnings are about
    roundabout operators; `verify` sees whether the result is right.
    """
    tf2onnx, tensorflow = logging.getLogger("tf2onnx"), logging.getLogger("tensorflow")
    level = tf2onnx.level
    tf2onnx.setLevel(logging.CRITICAL)
    tensorflow.addFilter(_is_of_use)
    try:
        yield
    finally:
        tensorflow.removeFilter(_is_of_use)
        tf2onnx.setLevel(level)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(TABLES)
