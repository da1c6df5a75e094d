"""Evaluation: metrics, protocols of clips and of films of stills."""
