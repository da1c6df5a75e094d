"""Measurements of jobs: kills at random times, cost against a run in one piece, memory of the join."""
