"""Repairs tf2onnx 1.17 for numpy 2, and its conversion of `tf.where`."""

import warnings

from kerasrnn.compat.private import KERAS, TF2ONNX, Private

PRIVATE = (
    Private(
        "keras.src.export.tf2onnx_lib.patch_tf2onnx",
        "tf2onnx calls names of numpy 1. Keras carries the repair for its own export.",
        (*KERAS, *TF2ONNX),
        "tf2onnx runs with numpy 2",
    ),
)


def load_tf2onnx():
    """Import tf2onnx and repair it for numpy 2: the `tf2onnx` module."""
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    with warnings.catch_warnings():  # the repair asks whether np.object exists
        warnings.simplefilter("ignore", FutureWarning)
        patch_tf2onnx()
    return tf2onnx


def _where(context, node, name, arguments):
    """The handler of `SelectV2`: ONNX's Where."""
    # tf2onnx writes c · x + (1 - c) · y, which is NaN where the side not chosen is infinite.
    node.type = "Where"
    return node


# TensorFlow operator -> (handler, arguments), as `custom_op_handlers` of tf2onnx expects
HANDLERS = {"SelectV2": (_where, [])}
