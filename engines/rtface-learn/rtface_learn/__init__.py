"""Learns face engine weights for one person from camera, films or photos."""

import importlib.util

for _module, _name in (("rtface", "rtface"), ("rtface_engines", "rtface-engines")):
    if importlib.util.find_spec(_module) is None:
        raise ImportError(f"rtface-learn needs {_name}, which is not installed: install its wheel or its clone first")
