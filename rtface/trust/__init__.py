"""Proof of an output: writes, reads and checks sidecars, checksums and signatures."""
