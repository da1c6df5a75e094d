"""Proves outputs: writes, reads and checks sidecars, checksums and signatures."""
