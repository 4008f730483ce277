"""A recurrent Gaussian that writes a series: its own values are fed back, on a grid."""

import keras
import tensorflow as tf

from kerasrnn.cells import GRU
from kerasrnn.decoding import Normal, draw_values
from kerasrnn.kinds import Choice, Place, Series
from kerasrnn.layers import Recurrent
from kerasrnn.models.serving import Served

HEAD = Normal(scale=0.1)
LENGTH = Place("length", Choice("int32", 1, 200, 20, (5, 1, 12)), "Steps")
SEED = Place("seed", Choice("int32", 0, 2**31 - 1, 1, (1, 7, 3)), "Seed")


class ServedWaves(Served):
    task, takes, gives = "waves", (LENGTH, SEED), (Place("wave", Series()),)

    def core(self, length, seed):
        def step(value, state):
            out, state = self.model.recurrent.cell(value, state, training=False)
            return self.model.dense(out), state

        state = [tf.zeros([1, self.model.units])]
        return draw_values(step, HEAD, tf.zeros([1, 1]), state, length, seed)


@keras.saving.register_keras_serializable("toys")
class Waves(keras.Model):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.recurrent = Recurrent(GRU(units), return_sequences=True)
        self.dense = keras.layers.Dense(1)
        self.recurrent.build((None, None, 1))
        self.dense.build((None, None, units))
        self.built = True

    def call(self, before, training=None):
        return self.dense(self.recurrent(before, training=training))

    def served(self):
        return ServedWaves(self)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
