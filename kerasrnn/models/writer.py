"""What models that write a sentence about something have in common: an encoder, a decoder."""

from __future__ import annotations

import keras

from kerasrnn.decoding.sampling import repeat_rows
from kerasrnn.losses.tokens import TokenCrossEntropy
from kerasrnn.models.text_model import TextModel


class Writer(TextModel):
    """A model with an `encoder` (anything -> `kerasrnn.layers.Encoded`) and a `decoder`."""

    parts: tuple[str, ...] = ("encoder", "decoder")
    options: tuple[str, ...] = ()

    @property
    def attends(self) -> bool:
        return self.decoder.attends

    def build_decoder(self):
        """Build the decoder for what the encoder gives."""
        values, summary = self.encoder.values_size, self.encoder.summary_size
        self.decoder.build((None, None), ((None, None, values), (None, None), (None, summary)))

    def stepper(self, source, beam: int):
        """Source -> (the step function of B · beam rows, state, the source's mask [B, S])."""
        encoded = self.encoder(source, training=False)
        memory = repeat_rows(self.decoder.memory(encoded), beam)

        def step(ids, state):
            logits, state, weights = self.decoder.step(ids, state, memory)
            return (logits, state) if weights is None else (logits, state, weights)

        return step, self.decoder.start(encoded), encoded.mask

    def default_loss(self) -> keras.losses.Loss:
        """The cross-entropy of real tokens."""
        return TokenCrossEntropy()

    def get_config(self):
        config = super().get_config()
        for name in ("encoder", "decoder"):
            config[name].pop("build_config")  # the model builds them
        return config
