"""From what a decoder computed to the scores of the ids.

E embedding, H units, D context, V vocabulary.
"""

import keras
from keras import ops

READOUTS = ("plain", "maxout", "deep", "tied", "maxout_tied")


class Readout:
    """The readout of a decoder, as a mixin.

    "plain" is a Dense of [h; context]; "maxout" the deep output of Bahdanau et al.
    2014, appendix A.2.2: t = maxout(U h + V E y + C c), logits = W t (with h(t) where the paper
    has h(t-1)); "deep" that of Xu et al. 2015, equation 7: logits = L_o tanh(E y + L_h h + L_c c);
    "tied" and "maxout_tied" end in the transposed embedding (Press and Wolf 2017).

    It reads the decoder's `options`, `embedding`, `dropout` and `context_size`.
    """

    options: dict

    def build_readout(self):
        o, E = self.options, self.options["embedding"]
        maxout, tied = o["readout"].startswith("maxout"), o["readout"].endswith("tied")
        width = o["units"] + self.context_size
        if o["readout"] != "plain":
            inputs = width + (E if maxout else 0)
            self.features = keras.layers.Dense(2 * E if maxout else E, name="features")
            self.features.build((None, None, inputs))
            width = E
        # Logits stay float32 in mixed precision.
        if tied:
            bias = {"shape": (o["size"],), "name": "readout_bias", "initializer": "zeros"}
            self.readout_bias = self.add_weight(**bias, dtype="float32", autocast=False)
        else:
            self.readout = keras.layers.Dense(o["size"], dtype="float32", name="readout")
            self.readout.build((None, None, width))

    def logits(self, h, context, embedded, training):
        """h [..., H], context [..., D] or None, embedded ids [..., E] -> logits [..., V]."""
        readout = self.options["readout"]
        x = h if context is None else ops.concatenate([h, context], axis=-1)
        if readout.startswith("maxout"):
            t = self.features(ops.concatenate([x, embedded], axis=-1))
            x = ops.maximum(*ops.split(t, 2, axis=-1))
        elif readout == "deep":
            x = ops.tanh(self.features(x) + embedded)
        elif readout == "tied":
            x = ops.tanh(self.features(x))
        x = self.dropout(x, training=training)
        if not readout.endswith("tied"):
            return self.readout(x)
        table = ops.cast(self.embedding.embeddings, x.dtype)
        logits = ops.matmul(x, ops.transpose(table))
        return ops.cast(logits, "float32") + self.readout_bias
