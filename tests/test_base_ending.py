"""A process ends although a thread of it does not."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from kerasrnn.base.ending import end_process
atexit.register(time.sleep, 60)
if sys.argv[1] == "waiting":
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
else:
    atexit.unregister(time.sleep)
    atexit.register(print, "usual end")
print("said")
print("told", file=sys.stderr)
end_process(3)
"""


@pytest.mark.parametrize("kind, out", [("waiting", "said\n"), ("done", "said\nusual end\n")])
def test_what_was_said_is_written_and_the_code_kept(kind, out):
    command = [sys.executable, "-c", PROGRAM, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (3, out, "told\n")
