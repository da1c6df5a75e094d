"""Reads quantisers from the headers of compressed frames."""
