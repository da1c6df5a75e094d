"""Evaluation: metrics, and protocols for real clips and for films made from stills."""
