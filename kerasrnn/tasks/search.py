"""How a run's model searches, as it was trained but for what is changed."""

from __future__ import annotations

from pathlib import Path

from kerasrnn.decoding.beam import BeamRules
from kerasrnn.tasks import run_folder


def rules_of(model, settings, **changed) -> BeamRules:
    """The search of a model with these settings."""
    known = {"beam": settings.beam, "length_penalty": settings.length_penalty, **changed}
    return BeamRules(**known, banned=model.banned_ids)


def search_of(run: str | Path, model, kind: type, **changed) -> dict:
    """`rules` and `max_length` of a run's model.

    Args:
        kind: the class of its settings.
        changed: any of `beam`, `n_best`, `max_length`; None is not a change.
    """
    settings = run_folder.read_settings(run, kind)
    changed = {name: value for name, value in changed.items() if value is not None}
    longest = changed.pop("max_length", settings.max_tokens)
    return {"rules": rules_of(model, settings, **changed), "max_length": longest}
