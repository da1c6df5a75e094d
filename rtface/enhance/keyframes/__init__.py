"""Keyframes: a heavy engine runs on some frames, and a small one on those between."""
