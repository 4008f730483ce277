"""tf2onnx with numpy 2.

tf2onnx 1.17 calls numpy 1 names; Keras carries the repair for its own export. Delete this file
when tf2onnx runs with numpy 2 by itself.
"""


def load_tf2onnx():
    """The `tf2onnx` module, repaired."""
    import tf2onnx
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()
    return tf2onnx
