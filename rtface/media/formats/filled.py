"""Whether a container is whole: its outermost parts fill its file, and nothing lies behind them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from rtface.errors import InputMissing
from rtface.media.formats import matroska, mp4

_TS_PACKET = 188


def fills_file(path: Path) -> bool:
    """Whether a film's outermost parts fill its file exactly; False for containers of which that is not known.

    Raises:
        InputMissing: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size, start = file.seek(0, 2), b""
            file.seek(0)
            start = file.read(12)
            if start[4:8] == b"ftyp":
                return sum(length for _, length in mp4.boxes(file)) == size
            if start[:4] == b"\x1aE\xdf\xa3":
                return _end(file, 0, size) == size and any(
                    _end(file, body, size) == (size if length < 0 else body + length)
                    for kind, body, length in matroska.level(file, 0)
                    if kind == matroska.SEGMENT
                )
            return start[:1] == b"G" and size % _TS_PACKET == 0
    except OSError as error:
        raise InputMissing(
            "{path}: cannot be read ({why})", code="file_unreadable", path=path, why=error.strerror
        ) from error


def _end(file: BinaryIO, at: int, whole: int) -> int:
    """Where the last of the elements in a row ends; an open one at the end of the file."""
    for _, body, size in matroska.level(file, at):
        at = whole if size < 0 else body + size
    return at
