"""What is printed: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
import tempfile


def say(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)


def load_tensorflow() -> None:
    """Import TensorFlow and hide what its libraries write to stderr, unless the import fails."""
    sys.stderr.flush()
    # C++ libraries write to file descriptor 2 before a log level is set, so that descriptor
    # itself is redirected, not `sys.stderr`.
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow as tf

            # Listing the devices makes the GPU libraries write here. Workers of a cluster must
            # meet before TensorFlow initializes its devices.
            if "TF_CONFIG" not in os.environ:
                tf.config.list_logical_devices()
        except Exception:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def figures(row: dict) -> str:
    """Return numbers by name as one line of text."""
    return ", ".join(f"{name} {v if isinstance(v, str) else f'{v:.6g}'}" for name, v in row.items())


class ReaderLeft(Exception):
    """The program that reads stdout has ended, as in `kerasrnn generate … | head`."""


def write_result(text: str) -> None:
    """Print a result to stdout."""
    try:
        print(text, flush=True)
    except BrokenPipeError as error:
        raise ReaderLeft from error


def print_result(args, data, text: str) -> None:
    """Print `data` as JSON with --json, else `text`."""
    write_result(as_json(data) if args.json else text)


def as_json(data) -> str:
    """Return data as one line of JSON; what is no number there is null, as in JavaScript.

    >>> as_json({"score": [-0.5, -float("inf")]})
    '{"score": [-0.5, null]}'
    """
    numbers = json.loads(json.dumps(data), parse_constant=lambda name: None)
    return json.dumps(numbers, ensure_ascii=False, allow_nan=False)
