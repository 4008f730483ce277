"""Files -> tf.data batches; knows no model."""
