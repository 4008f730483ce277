"""Files -> tf.data: text windows, pairs in batches, captioned images, word vectors."""
