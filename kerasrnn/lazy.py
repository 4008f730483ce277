"""Names that load what they need when they are used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def loader(package: str, places: dict[str, str]) -> Callable[[str], object]:
    """A module's `__getattr__`: each name of `places` from the module that it names.

    >>> loader("demo", {"sqrt": "math"})("sqrt")(9.0)
    3.0
    """

    def load(name: str):
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(places[name]), name)

    return load
