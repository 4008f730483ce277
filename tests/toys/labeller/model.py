"""A plain Keras model of characters with its labels inside."""

import keras
import tensorflow as tf

from kerasrnn.cells import GRU
from kerasrnn.kinds import Label, Number, Place
from kerasrnn.layers import Recurrent
from kerasrnn.models.serving import Served
from kerasrnn.models.serving.language_model import text_of
from kerasrnn.text import CharTokenizer
from kerasrnn.text.parts import NameClass, Tokenize


class ServedLabeller(Served):
    task = "labeller"
    gives = (Place("label", Label()), Place("probability", Number()))
    core_outputs = ("number", "probability")

    def __init__(self, model):
        super().__init__(model)
        self.takes = (Place("text", text_of(model.tokenizer), "A word"),)
        self.before, self.behind = [Tokenize(model.tokenizer, "text")], [NameClass(model.labels)]

    def core(self, ids):
        # A step of padding more: an empty text has one, too.
        p = tf.nn.softmax(self.model(tf.pad(ids, [[0, 0], [0, 1]]), training=False))
        return tf.argmax(p, axis=-1, output_type=tf.int32), tf.reduce_max(p, axis=-1)


@keras.saving.register_keras_serializable("toys")
class Labeller(keras.Model):
    def __init__(self, labels, characters, units, **options):
        super().__init__(**options)
        self.labels, self.characters, self.units = list(labels), list(characters), units
        self.tokenizer = CharTokenizer(self.characters)
        self.embedding = keras.layers.Embedding(self.tokenizer.size, 8)
        self.recurrent, self.dense = Recurrent(GRU(units)), keras.layers.Dense(len(labels))
        self.build((None, None))

    def build(self, shape):
        self.embedding.build(shape)
        self.recurrent.build((*shape, 8))
        self.dense.build((None, self.units))
        self.built = True

    def call(self, ids, training=None):
        mask = keras.ops.not_equal(ids, 0)
        return self.dense(self.recurrent(self.embedding(ids), mask=mask, training=training))

    def served(self):
        return ServedLabeller(self)

    def get_config(self):
        own = {"labels": self.labels, "characters": self.characters, "units": self.units}
        return {**super().get_config(), **own}
