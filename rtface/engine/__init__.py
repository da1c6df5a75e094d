"""Restoration networks: recipes, backends, the golden gate, and loading by name.

Names are imported on first use: which engines there are can be told without what runs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtface.engine.listing import EngineInfo, list_engines, measure
    from rtface.engine.loaded import LoadedEngine
    from rtface.engine.service import Asked, EngineSet, choose_engine, load_engine

__all__ = ["Asked", "EngineInfo", "EngineSet", "LoadedEngine", "choose_engine", "list_engines", "load_engine",
           "measure"]

_HOME = {"EngineInfo": "listing", "list_engines": "listing", "measure": "listing", "LoadedEngine": "loaded",
         "Asked": "service", "EngineSet": "service", "choose_engine": "service", "load_engine": "service"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"rtface.engine.{_HOME[name]}"), name)
    raise AttributeError(f"module 'rtface.engine' has no attribute {name!r}")
