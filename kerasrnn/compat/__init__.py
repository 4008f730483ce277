"""Every private name of Keras, TensorFlow and tf2onnx that this package uses.

Each file lists its names in `PRIVATE`, with the reason, the versions tried and when each can go.
No other file of the package uses a private name; tests/test_compat.py holds both.
"""
