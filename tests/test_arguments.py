"""What the command line can be told, and what it refuses before anything is loaded."""

import pytest

from kerasrnn.arguments import NEEDS
from tests.test_cli import refused

COMMANDS = {
    "train translator": ["--source", "a.tsv", "--target", "b", "--out", "run"],
    "generate": ["model.onnx", "--temperature", 0],
    "evaluate": ["run"],
    "export": ["run", "--out", "e"],
}
VALUES = {"top_k": "3", "top_p": "0.5", "seed": "7", "split": "val"}
TABLE = [(command, need) for command, needs in NEEDS.items() for need in needs]


@pytest.mark.parametrize(
    ("command", "need"), TABLE, ids=lambda v: v if isinstance(v, str) else v[0]
)
def test_an_option_that_means_nothing_alone_is_refused(command, need, capsys):
    option, value = "--" + need.option.replace("_", "-"), VALUES.get(need.option, "x")
    quantized = command == "export" and need.beside != "--quantize"
    others = [*COMMANDS[command], *(["--quantize", "int8"] if quantized else [])]
    added = need.beside.split()[0]
    assert refused(capsys, *command.split(), *others, option, value) == (
        f"kerasrnn: {option}: expected {need.beside} beside it, got {value}; "
        f"add {added}, or leave it out"
    )
