"""The studio (``rtface app``): a local server and its page."""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-studio needs rtface, which is not installed: install its wheel or its clone first")
