"""Where a container ends: the outermost parts of one that is whole fill its file, and nothing lies behind them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from rtface.errors import InputMissing
from rtface.media.formats import matroska, mp4

_TS_PACKET = 188


def container_end(path: Path) -> int:
    """Where the outermost parts of a film end, behind the end of its file where the last is cut; 0 for containers of
    which that is not known.

    Raises:
        InputMissing: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(12)
            if start[:1] == b"G":
                return size - size % _TS_PACKET
            if start[:4] == b"\x1aE\xdf\xa3":
                return _matroska_end(file, size)
            return sum(length for _, length in mp4.boxes(file))
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error


def _matroska_end(file: BinaryIO, whole: int) -> int:
    """Where the first segment ends or, where its elements contradict it, those; else all that follows."""
    for kind, body, length in matroska.level(file, 0):
        if kind == matroska.SEGMENT:
            inner, said = _end(file, body, whole), body + length
            return inner if length < 0 else _end(file, 0, whole) if inner == said else min(inner, said)
    return 0


def _end(file: BinaryIO, at: int, whole: int) -> int:
    """Where the last of the elements in a row ends; an open one at the end of the file."""
    for _, body, size in matroska.level(file, at):
        at = whole if size < 0 else body + size
    return at
