"""Losses, and networks for comparing images."""
