"""Computes coordinates and samples: display and sample space, alignment, native planes, colour curves."""
