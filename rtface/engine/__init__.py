"""Restoration networks: recipes, backends, the golden gate, and loading by name."""

from rtface.engine.loaded import LoadedEngine
from rtface.engine.service import Asked, EngineInfo, EngineSet, choose_engine, list_engines, load_engine, measure

__all__ = ["Asked", "EngineInfo", "EngineSet", "LoadedEngine", "choose_engine", "list_engines", "load_engine",
           "measure"]
