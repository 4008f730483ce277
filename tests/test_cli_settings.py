"""`kerasrnn settings TASK`: what training can be told, as the tasks declare it."""

import json

import pytest

from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.settings import said_of
from tests.test_cli import call, refused


@pytest.mark.parametrize("task", TASKS)
def test_every_setting_is_described(task, capsys):
    for preset, settings in TASKS[task].presets.items():
        code, out, _ = call(capsys, "settings", task, "--preset", preset, "--json")
        rows = json.loads(out)
        assert code == 0 and {row["name"]: row["value"] for row in rows} == vars(settings)
        assert all(row["help"] for row in rows)
    _, out, _ = call(capsys, "settings", task)
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    begun = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert begun == list(vars(TASKS[task].settings()))


def test_what_a_setting_may_be_and_needs_is_said(capsys):
    _, out, _ = call(capsys, "settings", "lm", "--preset", "tiny")
    said = " ".join(out.split())
    for text in (
        "units 128 of each layer's state (1 or more)",
        "optimizer adamw what moves the weights (adagrad, adam, adamw, rmsprop, sgd)",
        "weight_decay 0.01 share by which weights shrink in a step of rate 1; with --optimizer "
        "adamw (0 or more)",
        "tied false the output layer has the weights of the embedding (true or false)",
        "cell lstm the recurrent cell, or module:Class of --import (simple_rnn, jordan, lstm,",
    ):
        assert text in said


def test_a_preset_that_is_none(capsys):
    assert refused(capsys, "settings", "translator", "--preset", "multi") == (
        "kerasrnn: --preset: expected one of tiny, small, multi30k, got multi; "
        "did you mean multi30k?"
    )


@pytest.mark.parametrize("task", TASKS)
def test_no_setting_is_outside_its_own_range(task):
    """A default that is refused, or a range that refuses nothing, would show here."""
    for settings in TASKS[task].presets.values():
        settings.check()
    ranges = [said.range for said in said_of(TASKS[task].settings).values() if said.range]
    assert all(not limits.holds(-2) for limits in ranges)
