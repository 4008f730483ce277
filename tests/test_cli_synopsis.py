"""The synopsis in README is what the parsers say."""

from kerasrnn.cli.parser import make_parser
from kerasrnn.cli.synopsis import WIDTH, synopsis
from kerasrnn.tasks.catalog import TASKS
from tests.conftest import ROOT


def test_readme_has_the_synopsis():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```\n{synopsis()}\n```" in readme, "python -m kerasrnn.cli.synopsis prints it"


def test_every_option_of_every_command_stands_in_it(monkeypatch):
    text = synopsis()
    assert max(map(len, text.splitlines())) <= WIDTH
    names = {name for task in TASKS.values() for name in vars(task.settings())}
    settings = {f"--{name.replace('_', '-')}" for name in names}
    for name, parser in make_parser().commands.items():
        for option in {*parser.options} - settings - {"--help"}:
            assert option in text, (name, option)
    monkeypatch.setenv("COLUMNS", "40")
    assert synopsis() == text
