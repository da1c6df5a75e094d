"""Exports checkpoints to engine folders: ONNX, golden crops, recipe, int8 ranges."""
