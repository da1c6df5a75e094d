"""ONNX graphs run by PyTorch."""
