"""Restoration networks: recipes, backends, the golden gate, and loading by name.

Names are imported on first use: which engines there are can be told without what runs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtface.engine.engine_set import EngineRequest, EngineSet, load_engine, needs_large_engine
    from rtface.engine.host_engine import HostEngine
    from rtface.engine.listing import EngineInfo, list_engines, measure

__all__ = [
    "EngineInfo",
    "EngineRequest",
    "EngineSet",
    "HostEngine",
    "list_engines",
    "load_engine",
    "measure",
    "needs_large_engine",
]

_MODULES = {
    "EngineInfo": "listing",
    "list_engines": "listing",
    "measure": "listing",
    "HostEngine": "host_engine",
    "EngineRequest": "engine_set",
    "EngineSet": "engine_set",
    "load_engine": "engine_set",
    "needs_large_engine": "engine_set",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"rtface.engine.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'rtface.engine' has no attribute {name!r}")
