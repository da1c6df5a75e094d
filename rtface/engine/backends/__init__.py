"""Backends that run networks, and the choice between them."""
