"""Measurements of jobs: kills at random times."""
