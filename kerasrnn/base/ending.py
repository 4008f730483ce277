"""How a process ends while a thread of it still waits inside TensorFlow."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn


def end(code: int) -> NoReturn:
    """Ends the process with this exit code, at once where a daemon thread still runs.

    Such a thread may wait inside TensorFlow for a data service that is gone. Nothing can cancel it,
    and Python's usual end, which takes TensorFlow apart under it, was seen to hang.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
