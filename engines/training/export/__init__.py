"""From a checkpoint to an engine folder: ONNX, golden crops, recipe, int8 ranges."""
