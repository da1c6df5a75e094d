"""Backends that run a network on the CPU, and the choice between them."""
