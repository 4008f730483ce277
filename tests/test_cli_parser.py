"""What the command line can be told, and what it refuses before anything is loaded."""

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.tasks.catalog import TASKS, options_of
from kerasrnn.tasks.settings import said_of
from tests.test_cli import refused

COMMANDS = {
    "train": ["train", "translator", "--source", "a.tsv", "--target", "b", "--out", "run"],
    "generate": ["generate", "model.onnx", "--temperature", 0],
    "evaluate": ["evaluate", "run"],
    "export": ["export", "run", "--out", "e"],
}
RIVAL_OPTIONS = ("--embeddings", "--valid-text", "--valid-source", "--valid-captions")
# command, option, its value, what it needs
NEEDS = [
    ("train", "--valid-target", "x", "--valid-source"),
    ("train", "--valid-source", "x", "--valid-target"),
    ("generate", "--top-k", "3", "--temperature above 0"),
    ("generate", "--top-p", "0.5", "--temperature above 0"),
    ("generate", "--seed", "7", "--temperature above 0"),
    ("evaluate", "--target", "x", "--source"),
    ("evaluate", "--images", "x", "--captions"),
    ("export", "--target", "x", "--source"),
    ("export", "--images", "x", "--captions"),
]
SETTING_NEEDS = [
    ("lm", "--weight-decay", "0.5", "--optimizer adamw"),
    ("lm", "--clip-at", "0.5", "--clip other than none"),
    ("lm", "--embeddings-frozen", "true", "--embeddings"),
    ("translator", "--length-penalty", "0.5", "--beam above 1"),
    ("captioner", "--length-penalty", "0.5", "--beam above 1"),
    ("captioner", "--reinforce-weight", "0.5", "--conditioning hard"),
    ("captioner", "--entropy-weight", "0.5", "--conditioning hard"),
]
FILES = {
    "lm": ["--text", "a"],
    "translator": ["--source", "a"],
    "captioner": ["--images", "a", "--captions", "b"],
}


@pytest.mark.parametrize("command, option, value, beside", NEEDS)
def test_an_option_that_means_nothing_alone_is_refused(command, option, value, beside, capsys):
    quantized = ["--quantize", "int8"] if command == "export" else []
    assert refused(capsys, *COMMANDS[command], *quantized, option, value) == (
        f"kerasrnn: {option}: expected {beside} beside it, got {value}; "
        f"add {beside.split()[0]}, or leave it out"
    )


@pytest.mark.parametrize("name", options_of("export"))
def test_data_for_an_export_is_there_to_measure_what_is_quantized(name):
    from kerasrnn.tasks.exporting import _measure

    option = f"--{name.replace('_', '-')}"
    with pytest.raises(InputError, match=f"^{option}: expected --quantize beside it, got x; add "):
        _measure(None, None, (), {name: "x"}, None)


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


@pytest.mark.parametrize("task, option, value, beside", SETTING_NEEDS)
def test_a_setting_that_means_nothing_alone_is_refused(task, option, value, beside, capsys):
    others = ["--optimizer", "adam", "--clip", "none"]
    others += [] if task == "lm" else ["--beam", "1"]
    assert refused(capsys, "train", task, *FILES[task], "--out", "run", *others, option, value) == (
        f"kerasrnn: {option}: expected {beside} beside it, got {value.replace('true', 'True')}; "
        f"add {beside.split()[0]}, or leave it out"
    )


def test_every_need_and_rival_is_tried():
    settings = {
        (task.name, f"--{name.replace('_', '-')}", said.needs.beside)
        for task in TASKS.values()
        for name, said in said_of(task.settings).items()
        if said.needs
    }
    tried = {(task, option, beside) for task, option, _, beside in SETTING_NEEDS}
    assert {(o, b) for _, o, b in settings} == {(o, b) for _, o, b in tried} and tried <= settings
    options = {
        (command, option.typed, need.beside)
        for task in TASKS.values()
        for option in task.options
        for command, need in option.needs.items()
    }
    assert options == {(command, option, beside) for command, option, _, beside in NEEDS}
    rivals = {
        r for t in TASKS.values() for said in said_of(t.settings).values() for r in said.rivals
    }
    assert {f"--{name.replace('_', '-')}" for name in rivals} == set(RIVAL_OPTIONS)


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
    monkeypatch.setitem(cli.COMMANDS, "train", lambda args: seen.append(settings_of(args)))
    options = "--weight-decay 0.5 --clip-at 2 --embeddings v.txt --embeddings-frozen true"
    assert cli.main([*"train lm --text a --out b".split(), *options.split()]) == 0
    assert (seen[0].weight_decay, seen[0].clip_at, seen[0].embeddings_frozen) == (0.5, 2.0, True)
