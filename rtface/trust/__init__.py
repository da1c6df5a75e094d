"""Proof of an output: sidecar, checksums, signature; checks and readers of them."""
