"""One object of Keras's is given methods of ours, and is saved as what it was."""

from __future__ import annotations

import functools

import keras


def mix(instance, mixin: type) -> None:
    """Put `mixin` before the class of one object; it is saved as what it was."""
    kind = type(instance)
    if not issubclass(kind, mixin):
        object.__setattr__(instance, "__class__", _mixed(kind, mixin))


@functools.cache
def _mixed(kind: type, mixin: type) -> type:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    mixed = type(kind.__name__, (mixin, kind), names)
    package, registered, name = keras.saving.get_registered_name(kind).partition(">")
    if registered:
        # Of two classes with one name Keras saves both under it, and loads the later one.
        for one in (mixed, kind):
            keras.saving.register_keras_serializable(package, name)(one)
    return mixed
