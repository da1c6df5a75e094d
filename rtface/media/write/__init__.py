"""Writes films: stream plans, encoders, and atomically published files."""
