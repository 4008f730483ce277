"""Options that had another name when a model was saved."""

from __future__ import annotations


def with_new_names(config: dict, names: dict[str, str]) -> dict:
    """A saved configuration with the names that its options have now.

    Args:
        config: of a layer or a model.
        names: former name -> name now.

    >>> with_new_names({"size": 64, "seed": 1}, {"size": "image_size"})
    {'image_size': 64, 'seed': 1}
    """
    return {names.get(name, name): value for name, value in config.items()}
