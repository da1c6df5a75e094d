"""Recognises playlists by name."""

from __future__ import annotations

import os
from pathlib import Path

_EXTENSIONS = (".m3u8", ".m3u", ".ffconcat", ".txt", ".mpd", ".xml")


def is_playlist(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file of this name may refer to other files. Under other names, FFmpeg opens no other file."""
    return Path(path).suffix.lower() in _EXTENSIONS
