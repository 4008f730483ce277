"""A recurrent Gaussian: at each step the mean of a number, from two others and the past."""

import keras
import tensorflow as tf

from kerasrnn.cells import GRU
from kerasrnn.decoding import Normal
from kerasrnn.kinds import Number, Place, Series, State
from kerasrnn.layers import Recurrent
from kerasrnn.layers.carry import CarriesState
from kerasrnn.models.serving import Served
from kerasrnn.models.serving.scoring import COST

HEAD = Normal(1.0)
LEFT, RIGHT = Place("left", Series(), "left"), Place("right", Series(), "right")


class ServedSums(Served):
    task, takes, gives = "sums", (LEFT, RIGHT), (Place("value", Number()),)

    def core(self, left, right):
        means, _ = self.model.run(left, right, None)
        return means[:, -1]

    @property
    def scoring(self):
        return ScoringSums(self.model)


class ScoringSums(Served):
    task = "sums"

    def __init__(self, model):
        super().__init__(model)
        fresh = Place("fresh", State(None, "int32", 1, (0, 1)))
        state = Place("state", State(model.units))
        self.takes = (LEFT, RIGHT, Place("truth", Series()), fresh, state)
        self.gives = (*COST, Place("next_state", State(model.units)))

    def core(self, left, right, truth, fresh, state):
        state = tf.where(tf.reshape(fresh, [-1, 1]) > 0, 0.0, state)
        state = state + tf.zeros([tf.shape(left)[0], 1])
        means, state = self.model.run(left, right, state)
        costs = HEAD.nats(means[..., None], truth)
        return tf.reduce_sum(costs, 1), tf.reduce_sum(tf.ones_like(costs), 1), state

    @property
    def signatures(self):
        return {"score": (self.serve, self.signature)}


@keras.saving.register_keras_serializable("toys")
class Sums(CarriesState, keras.Model):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.supports_jit = units, False
        self.recurrent = Recurrent(GRU(units), return_sequences=True, return_state=True)
        self.dense = keras.layers.Dense(1)
        self.recurrent.build((None, None, 2))
        self.dense.build((None, None, units))
        self.carry_state_of(lambda rows: [tf.zeros([rows, units])])
        self.built = True

    def run(self, left, right, state):
        """(means [B, T], state) of series [B, T, 1]."""
        x, state = self.recurrent(tf.concat([left, right], -1), initial_state=state)
        return self.dense(x)[:, :, 0], state

    def call(self, inputs, training=None):
        left, right = inputs
        state = self.carried.read(tf.shape(left)[0])[0] if self.carried else None
        means, state = self.run(left, right, state)
        if self.carried:
            self.carried.write([state])
        return means

    def served(self):
        return ServedSums(self)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
