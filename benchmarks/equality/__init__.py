"""Whether two checkouts make the same output to the bit (see `__main__`)."""
