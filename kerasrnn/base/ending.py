"""Ends a process although one of its threads still waits inside TensorFlow."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End the process with this exit code; at once where a daemon thread still runs.

    Such a thread may wait inside TensorFlow for a data service that is gone. Nothing can cancel
    it. Python's usual exit unloads TensorFlow while the thread uses it, and was seen to hang.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        # `os._exit` neither flushes nor runs `atexit` functions.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
