"""The command line: its options, its commands, and how results and errors are printed."""

from kerasrnn.cli.command import main

__all__ = ["main"]
