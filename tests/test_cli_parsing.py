"""What was typed wrong: one line in the words that were typed, exit code 2, near misses named."""

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.cli.parser import make_parser
from kerasrnn.cli.parsing import input_error_line
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.settings import said_of
from tests.test_cli import refused

LM = "train lm --text a.txt --out b"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "COMMAND: expected a value, got nothing; add it, see kerasrnn --help"),
        ("train", "TASK: expected a value, got nothing; add it, see kerasrnn train --help"),
        ("train nmt", "TASK: *; did you mean translator?"),
        ("evalute run", "COMMAND: *; did you mean evaluate?"),
        ("qqq", "COMMAND: *; choose one of them"),
        (
            "train lm",
            "--text and --out: expected a value, got nothing; add it, see kerasrnn train lm --help",
        ),
        (
            "train lm --txt a.txt --out b",
            "--txt: expected an option of kerasrnn train lm, got one that it has not; "
            "did you mean --text?",
        ),
        (f"{LM} --lr 1", "--lr: *; did you mean --learning-rate?"),
        (f"{LM} --epoch=1", "--epoch: *; did you mean --epochs?"),
        (f"{LM} --qqq", "--qqq: *; see kerasrnn train lm --help"),
        (f"{LM} --seed two", "--seed: expected a whole number, got two; correct it"),
        (f"{LM} --epochs two", "--epochs: expected a whole number, got two; correct it"),
        (f"{LM} --set epochs=two", "--set epochs: expected a whole number, got two; correct it"),
        (f"{LM} --dropout x", "--dropout: expected a number, got x; correct it"),
        (f"{LM} --dropout nan", "--dropout: expected a number, got nan; correct it"),
        (f"{LM} --learning-rate inf", "--learning-rate: expected a number, got inf; correct it"),
        (f"{LM} --tied x", "--tied: expected true or false, got x; write one of them"),
        (f"{LM} --seed", "--seed: expected a value, got nothing; add it"),
        (f"{LM} --set lr=1", "--set: *, got lr=1; did you mean learning_rate?"),
        (f"{LM} --set hidden_size=1", "--set: *, got hidden_size=1; did you mean units?"),
        (f"{LM} --set layrs=1", "--set: *, got layrs=1; did you mean layers?"),
        (f"{LM} --preset smal", "--preset: *, got smal; did you mean small?"),
        (f"{LM} --level words", "--level: *, got words; did you mean word?"),
        (f"{LM} --precision fp16", "--precision: *, got fp16; did you mean mixed_float16?"),
        (f"{LM} --units 5 --units 6", "--units: expected one value, got 5 and 6; give it once"),
        (f"{LM} --set units=5 --units 6", "--units: expected one value, got 5 and 6; give it once"),
        ("generate m --temperature hot", "--temperature: expected a number, got hot; correct it"),
        ("demo lm b", "arguments: expected what kerasrnn takes, got b; see kerasrnn --help"),
    ],
)
def test_one_line_in_the_words_that_were_typed(command, message, capsys):
    line = refused(capsys, *command.split())
    begin, _, end = f"kerasrnn: {message}".partition("*")
    assert line.startswith(begin) and line.endswith(end), line


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_is_an_option(task):
    small = TASKS[task].settings()
    needed = {"lm": "--text a", "translator": "--source a", "captioner": "--images a --captions b"}
    words = f"train {task} {needed[task]} --out run".split()
    for name in vars(small):
        option = f"--{name.replace('_', '-')}"
        choices = said_of(small)[name].choices
        value = choices[0] if isinstance(choices, tuple) else "7"
        args = make_parser().parse_args([*words, option, value])
        assert getattr(args, name) == [value]
    text = make_parser().parse_args(words).parser.format_help()
    assert "settings:" in text and "--units N             of each layer's state (256)" in text


def test_the_same_value_twice_is_one_value(monkeypatch, capsys):
    from kerasrnn.cli import command as cli
    from kerasrnn.cli.training import settings_of

    seen = []
    monkeypatch.setitem(cli.COMMANDS, "train", lambda args: seen.append(settings_of(args)))
    both = "--units 5 --set units=5 layers=3 --tied true --embedding one-hot --learning-rate 1e-4"
    assert cli.main([*LM.split(), *both.split()]) == 0
    [settings] = seen
    assert (settings.units, settings.layers, settings.tied) == (5, 3, True)
    assert (settings.embedding, settings.learning_rate, settings.window) == ("one-hot", 1e-4, 100)


@pytest.mark.parametrize(
    ("command", "error", "line"),
    [
        (LM, ("text", "a", "b", "c"), "--text: expected a, got b; c"),
        (LM, ("max_size", "a", 3, "c"), "--vocabulary: expected a, got 3; c"),
        (f"{LM} --set units=0", ("units", "a", 0, "c"), "--set units: expected a, got 0; c"),
        (f"{LM} --units 0", ("units", "a", 0, "c"), "--units: expected a, got 0; c"),
        (
            f"{LM} --cell gur",
            ("cell", "one of lstm, gru", "gur", "choose one of them"),
            "--cell: expected one of lstm, gru, got gur; did you mean gru?",
        ),
        ("translate m", ("max_length", "a", 0, "c"), "--max-length: expected a, got 0; c"),
        ("caption m", ("image", "a", "b", "c"), "IMAGE: expected a, got b; c"),
        ("evaluate r", ("RUN", "a", "b", "c"), "RUN: expected a, got b; c"),
        (
            "train translator --source a --out b",
            ("source", "a", "b", 'mend them, or drop them with faults="drop"'),
            "--source: expected a, got b; mend them, or drop them with --drop-faulty",
        ),
        (
            "train translator --source a --valid-source c --out b",
            ("valid_source", "a", "b", "give the translations as valid_target, or mend them"),
            "--valid-source: expected a, got b; give --valid-target, or mend them",
        ),
        (
            "evaluate r --source a",
            ("source", "a", "b", 'mend them, or drop them with faults="drop"'),
            "--source: expected a, got b; mend them",
        ),
    ],
)
def test_arguments_of_the_library_are_said_as_they_were_typed(command, error, line):
    args = make_parser().parse_args(command.split())
    assert input_error_line(InputError(*error), args) == line


@pytest.mark.parametrize("command", ["train lm", "train captioner", "translate", "export", ""])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_a_help(command, option, capsys):
    with pytest.raises(SystemExit) as stop:
        make_parser().parse_args([*command.split(), option])
    assert stop.value.code == 0 and f"usage: kerasrnn {command}" in capsys.readouterr().out
