"""Ogg files (RFC 3533): whether their pages are whole, and all there. FFmpeg's demuxer drops those that are not."""

from __future__ import annotations

from typing import BinaryIO

from rtface.media.formats.coded_headers.bits import crc32

_HEAD, _NAME, _SEARCHED = 27, b"OggS", 1 << 20


def is_whole(file: BinaryIO) -> bool:
    """Whether every page has the checksum that it names, with nothing between two pages. What lies before the first and
    behind the last page is none; the numbers of pages jump where a recording was joined or begun in the middle."""
    found, strange = False, False
    while head := file.read(_HEAD):
        if not head.startswith(_NAME) or len(head) < _HEAD:
            strange, head = found, head + file.read(_SEARCHED)
            if (place := head.find(_NAME, 1)) >= 0 or len(head) > _SEARCHED:
                file.seek((place if place >= 0 else _SEARCHED) - len(head), 1)
            continue
        found, sizes = True, file.read(head[26])
        page = head[:22] + bytes(4) + head[26:] + sizes + file.read(sum(sizes))
        if strange or crc32(page) != int.from_bytes(head[22:26], "little"):
            return False
    return True
