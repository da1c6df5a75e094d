"""Hardware decoding and encoding on an NVIDIA GPU."""
