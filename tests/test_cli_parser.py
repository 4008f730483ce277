"""What the command line can be told, and what it refuses before anything is loaded."""

import pytest

from kerasrnn.tasks.needs import NEEDS, RIVALS
from tests.test_cli import refused

COMMANDS = {
    "train translator": ["--source", "a.tsv", "--target", "b", "--out", "run"],
    "generate": ["model.onnx", "--temperature", 0],
    "evaluate": ["run"],
    "export": ["run", "--out", "e"],
}
VALUES = {"top_k": "3", "top_p": "0.5", "seed": "7", "split": "val"}
RIVAL_OPTIONS = {f"--{rival.replace('_', '-')}" for _, rival in RIVALS}
SETTINGS = NEEDS["settings"]
TABLE = [(c, need) for c, needs in NEEDS.items() if c != "settings" for need in needs]


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


@pytest.mark.parametrize(
    "words, line",
    [
        ("--images d", "--images: expected --captions beside it, got d; add --captions"),
        ("--target b", "--target: expected --source beside it, got b; add --source"),
    ],
)
def test_evaluate_wants_both_files(words, line, capsys):
    assert (
        refused(capsys, "evaluate", "run", *words.split()) == f"kerasrnn: {line}, or leave it out"
    )


@pytest.mark.parametrize("need", SETTINGS, ids=lambda need: need.option)
def test_a_setting_that_means_nothing_alone_is_refused(need, capsys):
    lm = need.option in ("weight_decay", "clip_at", "embeddings_frozen")
    command = "train lm --text a" if lm else "train captioner --images a --captions b"
    others = "--optimizer adam --clip none" if lm else "--beam 1"
    value = "true" if need.option == "embeddings_frozen" else "0.5"
    words = [*command.split(), "--out", "run", *others.split(), "--set", f"{need.option}={value}"]
    line = refused(capsys, *words)
    assert line.startswith(f"kerasrnn: --{need.option.replace('_', '-')}: expected {need.beside} ")


@pytest.mark.parametrize(
    "words",
    [
        "train lm --text a --embeddings v.txt --embedding 64",
        "train lm --text a --valid-text v.txt --valid-share 0.2",
        "train translator --source a --target b --valid-source c --valid-target d "
        "--valid-share 0.2",
        "train captioner --images a --captions b --valid-captions v.json --valid-share 0.2",
    ],
)
def test_a_setting_that_another_option_makes_meaningless_is_refused(words, capsys):
    words = [*words.split(), "--out", "run"]
    setting, value = words[-4], words[-3]
    rival = next(w for w in words if w in RIVAL_OPTIONS and w != setting)
    assert refused(capsys, *words) == (
        f"kerasrnn: {setting}: expected no {rival} beside it, got {value}; "
        f"leave {setting} or {rival} out"
    )


def test_a_setting_beside_what_it_needs_is_taken(monkeypatch):
    from kerasrnn.cli import command as cli
    from kerasrnn.cli.training import settings_of

    seen = []
    monkeypatch.setitem(cli.COMMANDS, "train lm", lambda args: seen.append(settings_of(args)))
    options = "--weight-decay 0.5 --clip-at 2 --embeddings v.txt --embeddings-frozen true"
    assert cli.main([*"train lm --text a --out b".split(), *options.split()]) == 0
    assert (seen[0].weight_decay, seen[0].clip_at, seen[0].embeddings_frozen) == (0.5, 2.0, True)
