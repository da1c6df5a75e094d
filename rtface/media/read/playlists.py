"""Recognises playlists. Rejects playlists with the extension of another format."""

from __future__ import annotations

import os
from pathlib import Path

from av.container import InputContainer

from rtface.errors import InputError
from rtface.redaction import shown

# Formats whose files refer to other files, and their extensions. A playlist with a film's extension could bring
# films into the output without the user's knowledge.
_EXTENSIONS = {
    "hls": (".m3u8", ".m3u"),
    "concat": (".ffconcat", ".txt"),
    "dash": (".mpd",),
    "imf": (".xml",),
}
_FIRST_LINES = {b"ffconcat version": "concat", b"#EXTM3U": "hls"}


def is_playlist(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file of this name may refer to other files."""
    return Path(path).suffix.lower() in {suffix for suffixes in _EXTENSIONS.values() for suffix in suffixes}


def disguised(path: str | os.PathLike[str], container: InputContainer | None = None) -> InputError | None:
    """Returns the error for a playlist with a wrong extension, or None. Without `container`, reads the first bytes."""
    kind, suffix = container.format.name if container else "", Path(path).suffix.lower()
    if container is None and not is_playlist(path):
        with Path(path).open("rb") as file:
            head = file.read(64)
        kind = next((kind for line, kind in _FIRST_LINES.items() if head.startswith(line)), "")
    if suffix in _EXTENSIONS.get(kind, (suffix,)):
        return None
    return InputError(
        "{name}: is not a film but a playlist that refers to other files; if you trust it, rename it with its own "
        "extension, {extension}",
        code="playlist_kind",
        name=shown(path),
        extension=_EXTENSIONS[kind][0],
    )
