"""Engines on an NVIDIA GPU: batching, graphs, golden gate."""
