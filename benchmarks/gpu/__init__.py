"""What a machine with an NVIDIA GPU is measured by; see `__main__`."""
