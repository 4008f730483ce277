"""What models that write a sentence about something have in common: an encoder, a decoder."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable

import keras

from kerasrnn.base.renamed import renamed
from kerasrnn.decoding.sampling import repeated
from kerasrnn.distribution.multi_worker import FitsOnManyWorkers
from kerasrnn.losses.metrics import Nats, Perplexity
from kerasrnn.losses.tokens import TokenCrossEntropy

# model -> {key: its function for this search}
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def compiled_for(model, key: Hashable, make: Callable[[], Callable]) -> Callable:
    """A model's function for a search, made once; it must not hold the model itself."""
    functions = _COMPILED.setdefault(model, {})
    if key not in functions:
        functions[key] = make()
    return functions[key]


class Writer(FitsOnManyWorkers, keras.Model):
    """A model with an `encoder` (anything -> `kerasrnn.layers.Encoded`) and a `decoder`.

    A subclass names its constructor's arguments, each an attribute too: `parts`, those that
    Keras can serialize, and `options`, plain values.
    """

    parts: tuple[str, ...] = ("encoder", "decoder")
    options: tuple[str, ...] = ()
    former_options: tuple[tuple[str, str], ...] = ()  # (name when it was saved, name now)

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
        memory = repeated(self.decoder.memory(encoded), beam)

        def step(ids, state):
            logits, state, weights = self.decoder.step(ids, state, memory)
            return (logits, state) if weights is None else (logits, state, weights)

        return step, self.decoder.start(encoded), encoded.mask

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """As Keras's, with defaults: Adam with gradients clipped to a global norm of 1, the
        cross-entropy of real tokens, and nats and perplexity per token as metrics."""
        if optimizer is None:
            optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
        loss = TokenCrossEntropy() if loss is None else loss
        metrics = [Nats(), Perplexity()] if metrics is None else metrics
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        parts = {n: keras.saving.serialize_keras_object(getattr(self, n)) for n in self.parts}
        for name in ("encoder", "decoder"):
            parts[name].pop("build_config")  # the model builds them
        options = {name: getattr(self, name) for name in self.options}
        return {**super().get_config(), **parts, **options}

    @classmethod
    def from_config(cls, config):
        config = renamed(config, dict(cls.former_options))
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.parts}
        return cls(**{**config, **parts})
