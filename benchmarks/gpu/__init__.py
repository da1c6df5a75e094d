"""Benchmarks for machines with an NVIDIA GPU; see `__main__`."""
