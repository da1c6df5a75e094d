"""Converts published weights to networks that rtface runs; see ``engines/README.md``."""
