"""Evaluation: metrics, film protocols, real clips, temporal stability."""
