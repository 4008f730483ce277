"""A plain Keras model with its labels inside."""

import keras
import numpy as np

from kerasrnn.cells import GRU
from kerasrnn.layers import Recurrent

LENGTH = 12


@keras.saving.register_keras_serializable("toys")
class Labeller(keras.Model):
    def __init__(self, labels, units, **options):
        super().__init__(**options)
        self.labels, self.units = list(labels), units
        self.embedding = keras.layers.Embedding(128, 8)
        self.recurrent, self.dense = Recurrent(GRU(units)), keras.layers.Dense(len(labels))
        self.build((None, LENGTH))

    def build(self, shape):
        self.embedding.build(shape)
        self.recurrent.build((*shape, 8))
        self.dense.build((None, self.units))
        self.built = True

    def call(self, codes, training=None):
        mask = keras.ops.not_equal(codes, 0)
        return self.dense(self.recurrent(self.embedding(codes), mask=mask, training=training))

    @staticmethod
    def codes(text: str) -> np.ndarray:
        codes = [min(ord(character), 127) for character in text[:LENGTH]]
        return np.array(codes + [0] * (LENGTH - len(codes)), "int32")

    def labels_of(self, codes) -> list[str]:
        return [self.labels[i] for i in np.argmax(self(codes), axis=-1)]

    def label(self, texts: list[str]) -> list[str]:
        return self.labels_of(np.stack([self.codes(text) for text in texts]))

    def get_config(self):
        return {**super().get_config(), "labels": self.labels, "units": self.units}
