"""Recognises persons: an embedding for each track, tracks joined to persons."""
