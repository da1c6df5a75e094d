"""A stage of rtface that replaces faces by synthetic ones, for privacy. Not for commercial use."""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-synthetic needs rtface, which is not installed: install its wheel or its clone first")
