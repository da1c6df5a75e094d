"""Measures the degradation of faces, and decides their treatment."""
