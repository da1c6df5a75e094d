"""Recognises persons: computes an embedding for each track, and joins tracks to persons."""
