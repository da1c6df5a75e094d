"""What a machine with an NVIDIA card is measured by; see `__main__`."""
