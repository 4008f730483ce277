"""Public names of a package that import their module when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def lazy(package: str, places: dict[str, str]) -> tuple[Callable, Callable]:
    """The `__getattr__` and the `__dir__` of a package whose names are imported on use.

    Args:
        package: the name of the package.
        places: public name -> the module that has it. A name that ends the module's path is the
            module itself.

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
