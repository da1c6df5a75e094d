"""Recognises playlists. Refuses those whose names look like films."""

from __future__ import annotations

import os
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from av.container import InputContainer

from rtface.errors import InputError
from rtface.redaction import shown

# Formats whose files refer to other files, and their extensions. A playlist with a film's extension could bring films
# into the output that the user did not choose.
_EXTENSIONS = {
    "hls": (".m3u8", ".m3u", ".mpd"),
    "concat": (".ffconcat", ".txt"),
    "dash": (".mpd",),
    "imf": (".xml",),
}
_FIRST_LINES = {b"ffconcat version": "concat", b"#EXTM3U": "hls"}


def is_playlist(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file of this name may refer to other files."""
    return Path(path).suffix.lower() in {suffix for suffixes in _EXTENSIONS.values() for suffix in suffixes}


def disguised(path: str | os.PathLike[str], container: InputContainer | None = None) -> InputError | None:
    """Returns the error for a playlist under another extension, or None. Detects it by `container` or first bytes."""
    kind, fitting = container.format.name if container else "", Path(path).suffix.lower()
    if container is None and not is_playlist(path):
        with Path(path).open("rb") as file:
            head = file.read(64)
        kind = next((kind for line, kind in _FIRST_LINES.items() if head.startswith(line)), "")
    if fitting in _EXTENSIONS.get(kind, (fitting,)):
        return None
    return InputError(
        "{name}: is not a film but a playlist that refers to other files; if you trust it, rename it with its own "
        "extension, {extension}",
        code="playlist_kind",
        name=shown(path),
        extension=_EXTENSIONS[kind][0],
    )


def names_itself(path: Path) -> bool:
    """Returns whether a playlist refers to itself, directly or indirectly."""
    named, waiting = dict[Path, set[Path]](), [path.resolve()]
    while waiting:
        if (one := waiting.pop()) not in named:
            named[one] = _lists_in(one)
            waiting += named[one]
    try:
        TopologicalSorter(named).prepare()
    except CycleError:  # FFmpeg would read it endlessly
        return True
    return False


def _lists_in(path: Path) -> set[Path]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8", "replace").split("\n") if "\0" not in line]
    except OSError:
        return set()
    return {(path.parent / line).resolve() for line in lines if is_playlist(line) and not line.startswith("#")}
