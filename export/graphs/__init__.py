"""ONNX graphs: made, joined and mended."""
