"""The boxes of MP4 and MOV files (ISO 14496-12), as far as a file has to be looked at or mended without FFmpeg."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Top-level boxes of an ISO base media file: type and size; ends at the first that makes no sense."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = struct.unpack(">Q", head[8:])[0]
        if size < 8 or not kind.isalnum():
            return
        yield kind, size
        at += size


def cut_to_whole_fragments(path: Path) -> None:
    """Cuts a fragmented MP4 behind its last whole fragment, where it has one."""
    size, at, whole = path.stat().st_size, 0, 0
    with path.open("rb+") as file:
        for kind, length in boxes(file):
            at += length
            if at <= size and kind == b"mdat":
                whole = at
        if at > size and whole:
            file.truncate(whole)


def hide_cover_track(path: Path) -> None:
    """Turns the track that FFmpeg's fragment writer makes of a cover picture, which has no samples, into free space.

    The picture itself lies among the tags.
    """
    with path.open("rb+") as file:
        at = 0
        for kind, length in boxes(file):
            if kind == b"moov":
                break
            at += length
        else:
            return
        file.seek(at)
        moov = file.read(length)
        inner = 8
        while inner + 8 <= len(moov):
            size, kind = struct.unpack_from(">I4s", moov, inner)
            entry = moov.find(b"stsd", inner, inner + size)
            if kind == b"trak" and entry > 0 and not moov[entry + 16 : entry + 20].isalnum():
                file.seek(at + inner + 4)
                file.write(b"free")
            inner += max(size, 8)
