"""Where rtface keeps its files: the platform's own folders, moved by ``RTFACE_CONFIG_DIR`` and ``RTFACE_CACHE``."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def _folder(variable: str, default: str) -> Path:
    chosen = os.environ.get(variable, "").strip()
    return Path(chosen).expanduser() if chosen else Path(default)


def config_dir() -> Path:
    """Folder of the user's settings and own engines (may not exist); ``RTFACE_CONFIG_DIR`` moves it."""
    return _folder("RTFACE_CONFIG_DIR", platformdirs.user_config_dir("rtface", appauthor=False))


def cache_dir() -> Path:
    """Folder of what can be made again, such as compiled engines (may not exist); ``RTFACE_CACHE`` moves it."""
    return _folder("RTFACE_CACHE", platformdirs.user_cache_dir("rtface", appauthor=False))
