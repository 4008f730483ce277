"""What tf2onnx 1.17 lacks, in one place.

- numpy 2: it calls numpy 1 names; Keras carries the repair for its own export.
- `SelectV2` becomes c · x + (1 - c) · y, which is NaN where the side not chosen is infinite;
  ONNX's `Where` chooses.

Delete an entry when tf2onnx no longer needs it.
"""

import warnings


def load_tf2onnx():
    """The `tf2onnx` module, repaired."""
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    with warnings.catch_warnings():  # the repair asks whether np.object exists
        warnings.simplefilter("ignore", FutureWarning)
        patch_tf2onnx()
    return tf2onnx


def _where(context, node, name, arguments):
    node.type = "Where"
    return node


HANDLERS = {"SelectV2": (_where, [])}
