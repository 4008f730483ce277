"""How models are served: what an export writes of each."""

from kerasrnn.models.serving.served import Served

__all__ = ["Served"]
