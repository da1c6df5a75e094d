"""A face that does not exist instead of the real one: a stage of rtface, for privacy. Not for commercial use."""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-synthetic needs rtface, which is not installed: install its wheel or its clone first")
