"""Recurrent layers, encoders of text and images, the decoder, and `adopt` for Keras models."""

from kerasrnn.layers.adoption import adopt
from kerasrnn.layers.bidirectional import Bidirectional
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import (
    BidirectionalEncoder,
    ConvolutionalEncoder,
    Encoded,
    GNMTEncoder,
    StackedEncoder,
)
from kerasrnn.layers.images import ImageEncoder
from kerasrnn.layers.recurrent import Recurrent

__all__ = [
    "Bidirectional",
    "BidirectionalEncoder",
    "ConvolutionalEncoder",
    "Decoder",
    "Encoded",
    "GNMTEncoder",
    "ImageEncoder",
    "Recurrent",
    "StackedEncoder",
    "adopt",
]
