"""A cell chosen by name or by class, and the name under which a model saves its choice."""

from __future__ import annotations

import sys

import keras

from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.cells.base import Cell

REGISTER = 'write @keras.saving.register_keras_serializable("my_package") above the class'


def cell_class(cell: str | type[Cell]) -> type[Cell]:
    """Return the class that is meant.

    Nothing is imported here: the name may come from a file that a stranger made.

    Args:
        cell: a name in `CELLS`, a subclass of `Cell`, the name under which one is registered with
            Keras ("package>Class"), or "module:Class" of a module that is imported.

    Raises:
        InputError: when it is none of these.

    >>> cell_class("gru").__name__, cell_class("kerasrnn.cells.mut:MUT1").__name__
    ('GRU', 'MUT1')
    """
    found = cell
    if isinstance(cell, str):
        module, colon, name = cell.partition(":")
        if cell in CELLS:
            found = CELLS[cell]
        elif colon:
            found = getattr(sys.modules.get(module), name, None)
        else:
            found = keras.saving.get_registered_object(cell) if ">" in cell else None
    if isinstance(found, type) and issubclass(found, Cell):
        return found
    expected = f"one of {', '.join(CELLS)}"
    if not isinstance(cell, str):
        raise InputError("cell", f"{expected}, or a subclass of Cell", repr(cell), "give one")
    if ":" in cell or ">" in cell:
        package = cell.partition(":")[0].partition(">")[0].split(".")[0]
        expected = "a subclass of Cell in a module that is imported"
        raise InputError("cell", expected, cell, f"import it; or say --import {package}")
    raise InputError("cell", expected, cell, "choose one of them")


def cell_name(cell: str | type[Cell]) -> str:
    """Return the name under which a configuration has a cell; `cell_class` finds it again.

    Raises:
        InputError: when the class is not registered with Keras, so that no model of it could be
            loaded.

    >>> cell_name("gru"), cell_name(CELLS["gru"])
    ('gru', 'gru')
    """
    found = cell_class(cell)
    for name, known in CELLS.items():
        if found is known:
            return name
    registered = keras.saving.get_registered_name(found)
    if keras.saving.get_registered_object(registered) is not found:
        expected = "a class that is registered with Keras, to be saved"
        raise InputError("cell", expected, found.__name__, REGISTER)
    return registered
