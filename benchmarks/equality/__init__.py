"""Checks that two checkouts produce bit-identical outputs (see `__main__`)."""
