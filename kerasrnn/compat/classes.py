"""Gives one Keras object methods of ours, without a change to how it is saved."""

from __future__ import annotations

import functools

import keras


def mix(instance, mixin: type) -> None:
    """Give one object the methods of `mixin` before those of its class.

    Keras saves it as an object of its class all the same.
    """
    kind = type(instance)
    if not issubclass(kind, mixin):
        object.__setattr__(instance, "__class__", _mixed(kind, mixin))


@functools.cache
def _mixed(kind: type, mixin: type) -> type:
    """A subclass of both, with the name and the registration of `kind`."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    mixed = type(kind.__name__, (mixin, kind), names)
    package, registered, name = keras.saving.get_registered_name(kind).partition(">")
    if registered:
        # Keras saves both classes under this name and loads the one registered last: `kind`.
        for cls in (mixed, kind):
            keras.saving.register_keras_serializable(package, name)(cls)
    return mixed
