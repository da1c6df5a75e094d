"""Enhances frames: selects faces and engines, cuts crops, shapes and composites corrections."""
