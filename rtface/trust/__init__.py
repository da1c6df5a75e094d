"""Proof of an output: sidecar, checksums, signature; what checks, reads and takes them back; what policy refuses."""
