"""Overlays for rtface: stages that draw over a film or a live picture after its faces were enhanced."""

__version__ = "0.1.0"
