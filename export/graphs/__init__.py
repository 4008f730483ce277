"""ONNX graphs: built, joined and simplified."""
