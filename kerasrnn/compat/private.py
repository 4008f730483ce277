"""The record kept of each private name."""

from dataclasses import dataclass

KERAS = ("keras 3.12.0", "keras 3.15.1", "keras-nightly 3.16.0.dev2026102704")
TENSORFLOW = ("tensorflow 2.20.0", "tensorflow 2.21.0")
TF2ONNX = ("tf2onnx 1.17.0",)


@dataclass(frozen=True)
class Private:
    """A name that a library does not promise to keep.

    Attributes:
        name: the full name with its module or class, in dots.
        reason: why it is needed, and no public name does the same.
        tried: the releases that it was tried with and works in.
        until: the condition under which its use can be removed.
    """

    name: str
    reason: str
    tried: tuple[str, ...]
    until: str
