"""Runs a heavy engine on keyframes, and a light one in between."""
