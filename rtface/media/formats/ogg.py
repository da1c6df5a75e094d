"""Ogg files (RFC 3533): whether their pages are whole, and all there. FFmpeg's demuxer drops those that are not."""

from __future__ import annotations

from typing import BinaryIO

from rtface.media.formats.coded_headers.bits import crc32

_HEAD, _NAME, _SEARCHED = 27, b"OggS", 1 << 20


def is_whole(file: BinaryIO) -> bool:
    """Whether every page has the checksum that it names, and follows the last one of its stream; what lies behind the
    last page is none."""
    numbers, strange = dict[bytes, int](), False
    while head := file.read(_HEAD):
        if not head.startswith(_NAME) or len(head) < _HEAD:
            strange, head = True, head + file.read(_SEARCHED)
            if (found := head.find(_NAME, 1)) >= 0 or len(head) > _SEARCHED:
                file.seek((found if found >= 0 else _SEARCHED) - len(head), 1)
            continue
        sizes = file.read(head[26])
        body = file.read(sum(sizes))
        number = int.from_bytes(head[18:22], "little")
        sound = crc32(head[:22] + bytes(4) + head[26:] + sizes + body) == int.from_bytes(head[22:26], "little")
        if strange or not sound or numbers.get(head[14:18], number - 1) != number - 1:
            return False
        numbers[head[14:18]] = number
    return True
