"""What a truth costs under a model, in nats.

B batch, T tokens, H units.
"""

from __future__ import annotations

import tensorflow as tf

from kerasrnn.decoding.heads import Tokens
from kerasrnn.decoding.sampling import PAD
from kerasrnn.kinds import Number, Place
from kerasrnn.models.search import with_end
from kerasrnn.models.serving.served import Named, Served
from kerasrnn.text.tokenizers import START

COST = (Place("nats", Number()), Place("count", Number()))


class Scoring(Served):
    """A served model that says what a truth costs: `nats` and `count` of its tokens, float32 [B].

    Its second signature takes the ids of every text in place of the text.

    Args:
        served: the model as it answers.
    """

    gives = COST

    def __init__(self, served: Served):
        super().__init__(served.model)
        self.task, self.title = served.task, served.title

    @property
    def signatures(self):
        return {
            "score": (self.serve, self.signature),
            "score_ids": (self.serve_ids, self.core_signature),
        }

    def serve_ids(self, *inputs) -> Named:
        """`serve`, from ids."""
        return dict(zip(self.core_outputs, self.core(*inputs), strict=True))


def cost_of(logits, targets):
    """Logits [B, T, V] and targets int32 [B, T], padded behind -> (nats, count) float32 [B]."""
    real = tf.cast(targets != PAD, tf.float32)
    nats = Tokens().nats(logits, targets)
    return tf.reduce_sum(nats * real, axis=1), tf.reduce_sum(real, axis=1)


def cost_of_sentences(model, inputs, ids):
    """What sentences cost that a model writes about `inputs`; their ids int32 [B, T], padded."""
    begin = tf.fill([tf.shape(ids)[0], 1], START)
    logits = model((inputs, tf.concat([begin, ids], axis=1)), training=False)
    return cost_of(logits, with_end(ids))
