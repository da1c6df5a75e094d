"""Locates the blocks of a Matroska film in its file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from rtface.media.formats.matroska import SEGMENT, UNKNOWN, head
from rtface.media.formats.mp4 import find_bytes

_CLUSTER, _GROUP, _BLOCKS, _EBML = 0x1F43B675, 0xA0, (0xA3, 0xA1), 0x1A45DFA3
_SYNC = _CLUSTER.to_bytes(4, "big")
# IDs of elements outside clusters, of numbers (at most 8 bytes) in clusters and groups, of all elements in both.
_OUTSIDE = {_EBML, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0x1B538667}
_NUMBERS = {0xE7, 0xA7, 0xAB, 0x9B, 0xFB, 0xFA}
_INSIDE = {*_NUMBERS, *_BLOCKS, 0xA2, 0xA4, 0xAF, 0xBF, 0xC8, 0x8E, 0xEC, 0xFD}


def blocks(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Yields track number, start and end of each block with frames. The lengths of clusters and groups are ignored.

    Invalid bytes up to the next cluster yield (0, -2, -1), except for zeros at the end of the film.
    """
    size, position, end = file.seek(0, 2), 0, UNKNOWN
    while position < size and position != end:
        file.seek(position)
        data = file.read(20)
        kind, body, length = head(data[:12], 0) or (0, 0, 0)
        stop = position + body + length
        if position and kind == _EBML:  # another film is appended
            return
        if kind in (SEGMENT, _CLUSTER, _GROUP):
            end = stop if kind == SEGMENT and length != UNKNOWN else end
            position += body
        elif (
            length >= 0
            and stop <= size
            and (length <= 8 or kind not in _NUMBERS)
            and (kind in _OUTSIDE or kind in _INSIDE or 0xFF < kind < 1 << 24)  # unknown IDs have 2 or 3 bytes
        ):
            if kind in _BLOCKS and length > 4:  # 4 bytes precede the frames
                yield _track_number(data[body:]), position, stop
            position = stop
        else:
            position = find_bytes(file, _SYNC, position + 1, size)
            if position < size or (kind not in _OUTSIDE and any(data)):
                yield 0, -2, -1


def _track_number(data: bytes) -> int:
    """Returns the track number of a block; -1 if it is invalid."""
    length = 9 - data[0].bit_length() if data else 9
    return -1 if length > min(8, len(data)) else int.from_bytes(data[:length], "big") & ((1 << 7 * length) - 1)
