"""Every private name of Keras, TensorFlow and tf2onnx that is used: why, and until when.

Each file lists its names in `PRIVATE`, with the reason, the versions tried and when each can go.
No other file of the package uses a private name. tests/test_compat.py checks both.
"""
