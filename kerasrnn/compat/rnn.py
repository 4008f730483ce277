"""cuDNN's recurrent kernels, as Keras's TensorFlow backend calls them."""

from keras.src.backend.tensorflow.rnn import gru, lstm

from kerasrnn.compat.private import KERAS, Private

PRIVATE = (
    Private(
        "keras.src.backend.tensorflow.rnn.lstm",
        "TensorFlow has cuDNN's kernel only as a raw operation with flat weights in cuDNN's own "
        "order. Keras packs the weights, and only inside `keras.layers.LSTM`.",
        KERAS,
        "Keras has a public function for the kernel, as keras.ops.rnn would be",
    ),
    Private(
        "keras.src.backend.tensorflow.rnn.gru",
        "As for lstm.",
        KERAS,
        "as for lstm",
    ),
)
# cell kind -> the function that runs cuDNN's kernel
KERNELS = {"lstm": lstm, "gru": gru}
