"""The command line: what can be said, and how answers and errors are printed."""

from kerasrnn.cli.command import main

__all__ = ["main"]
