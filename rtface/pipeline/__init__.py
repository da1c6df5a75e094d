"""Builds and runs the pipeline: chains, films, stills, segments, comparison, and what a run opens."""
