"""What all models of text have in common: how they are compiled, saved and trained by workers."""

from __future__ import annotations

import keras

from kerasrnn.base.renamed import with_new_names
from kerasrnn.distribution.multi_worker import FitsOnManyWorkers
from kerasrnn.losses.metrics import Nats, Perplexity


class TextModel(FitsOnManyWorkers, keras.Model):
    """A model whose logits are of tokens.

    A subclass names its constructor's arguments: `parts`, attributes that Keras can serialize,
    and `options`, plain values.
    """

    parts: tuple[str, ...] = ()
    former_options: tuple[tuple[str, str], ...] = ()  # (name when it was saved, name now)

    def option_values(self) -> dict:
        """The constructor's plain arguments."""
        return {name: getattr(self, name) for name in self.options}

    def default_loss(self) -> keras.losses.Loss:
        """The loss of `compile` without one: the cross-entropy of the logits."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of `compile` without any."""
        return [Nats(), Perplexity()]

    def compile(self, optimizer=None, loss=None, metrics=None, **kwargs):
        """As Keras's. The defaults are Adam with gradients clipped to a global norm of 1,
        `default_loss` and `default_metrics`."""
        if optimizer is None:
            optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
        loss = self.default_loss() if loss is None else loss
        metrics = self.default_metrics() if metrics is None else metrics
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        parts = {n: keras.saving.serialize_keras_object(getattr(self, n)) for n in self.parts}
        return {**super().get_config(), **parts, **self.option_values()}

    @classmethod
    def from_config(cls, config):
        config = with_new_names(config, dict(cls.former_options))
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.parts}
        return cls(**{**config, **parts})
