"""Quantisers that headers of compressed frames give, where a decoder does not."""
