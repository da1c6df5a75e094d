"""Overlays for rtface: stages that draw over a film or a live stream after its faces were enhanced."""

import importlib.util

__version__ = "0.1.0"

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-overlays needs rtface, which is not installed: install its wheel or its clone first")
