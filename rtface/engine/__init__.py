"""Restoration networks: recipes, backends, the golden gate, and loading by name."""

from rtface.engine.listing import EngineInfo, list_engines, measure
from rtface.engine.loaded import LoadedEngine
from rtface.engine.service import Asked, EngineSet, choose_engine, load_engine

__all__ = ["Asked", "EngineInfo", "EngineSet", "LoadedEngine", "choose_engine", "list_engines", "load_engine",
           "measure"]
