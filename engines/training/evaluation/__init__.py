"""Evaluation: metrics, protocols of real clips and of films of stills, temporal stability."""
