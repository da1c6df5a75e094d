"""Decodes and encodes video on an NVIDIA GPU."""
