"""A recurrent Gaussian that writes a series: its own values are fed back, on a grid."""

import keras
import tensorflow as tf

from kerasrnn.cells import GRU
from kerasrnn.decoding.sampling import uniform
from kerasrnn.kinds import Choice, Place, Series
from kerasrnn.layers import Recurrent
from kerasrnn.models.serving import Served

GRID, WIDTH = 1 / 64, 0.1
LENGTH = Place("length", Choice("int32", 1, 200, 20, (5, 1, 12)), "Steps")
SEED = Place("seed", Choice("int32", 0, 2**31 - 1, 1, (1, 7, 3)), "Seed")


class ServedWaves(Served):
    task, takes, gives = "waves", (LENGTH, SEED), (Place("wave", Series()),)

    def core(self, length, seed):
        first = tf.zeros([1, 1])
        state = tf.zeros([1, self.model.units])
        wave = tf.TensorArray(tf.float32, size=length, element_shape=[1, 1])

        def step(t, x, state, wave):
            out, state = self.model.recurrent.cell(x, [state], training=False)
            rows = [tf.constant([i], tf.int64) for i in range(6)]  # six even ones are about normal
            six = tf.add_n([uniform(tf.cast(seed, tf.int64), row, t) for row in rows])
            noise = WIDTH * 1.4142135 * (six - 3.0)[:, None]
            x = tf.round((self.model.dense(out) + noise) / GRID) * GRID
            return t + 1, x, state[0], wave.write(tf.cast(t, tf.int32), x)

        start = (tf.constant(0, tf.int64), first, state, wave)
        *_, wave = tf.while_loop(lambda t, *_: t < tf.cast(length, tf.int64), step, start)
        return tf.transpose(wave.stack(), [1, 0, 2])


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
