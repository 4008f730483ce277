"""Run the command line with `python -m kerasrnn.cli`."""

from kerasrnn.cli.command import program

if __name__ == "__main__":
    program()
