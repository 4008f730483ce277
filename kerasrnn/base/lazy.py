"""Names that load what they need when they are used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def lazy(package: str, places: dict[str, str]) -> tuple[Callable, Callable]:
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: its name.
        places: public name -> the module that has it; a module itself stands for its own name.

    >>> getattr_, dir_ = lazy("demo", {"sqrt": "math", "math": "math"})
    >>> getattr_("sqrt")(9.0), getattr_("math").__name__, dir_()
    (3.0, 'math', ['math', 'sqrt'])
    """

    def load(name: str):
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(places[name])
        return module if name == places[name].split(".")[-1] else getattr(module, name)

    return load, lambda: sorted(places)
