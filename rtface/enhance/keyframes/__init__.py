"""Keyframes: a heavy engine runs on some frames, and a light one on those between."""
