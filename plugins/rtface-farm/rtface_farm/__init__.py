"""Segments of a job on the workers of a Dask cluster: ``rtface run --farm dask://HOST:PORT``."""

import importlib.util

if importlib.util.find_spec("rtface") is None:
    raise ImportError("rtface-farm needs rtface, which is not installed: install its wheel or its clone first")
