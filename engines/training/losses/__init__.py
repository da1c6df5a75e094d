"""Losses, and the networks that they compare images by."""
