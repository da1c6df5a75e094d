"""Takes tags out of a finished film in place, without moving anything else in the file.

Containers write their tags with the header, before it is known whether any face will be corrected.
Where none was, the tags that say so are taken out at the end: their bytes become free space (MP4,
MOV) or a Void element (Matroska, WebM).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from typing import BinaryIO

from rtface.media.mp4 import boxes, find_box, inner_boxes
from rtface.media.mxf import take_out_comments


def take_out(file: BinaryIO, format: str, names: Collection[str]) -> None:
    """Removes the global tags `names` from a file in FFmpeg's container `format`; MPEG-TS has
    none."""
    if not names:
        return
    if format in ("mp4", "mov"):
        _from_mp4(file, names)
    elif format in ("matroska", "webm"):
        _from_matroska(file, {name.lower() for name in names})
    elif format == "mxf":
        take_out_comments(file, names)


# -- MP4, MOV (ISO 14496-12, QuickTime metadata keys) ---------------------------------------------------------------


def _from_mp4(file: BinaryIO, names: Collection[str]) -> None:
    at = 0
    for kind, size in list(boxes(file)):
        if kind == b"moov":
            _clean_moov(file, at, size, names)
        elif kind == b"mdat":  # FFmpeg's fragments, once whole, leave their first header at the beginning of it
            for inner in (at + 8, at + 16):
                file.seek(inner)
                head = file.read(8)
                if head[4:] == b"ftyp" and (length := struct.unpack(">I", head[:4])[0]) < size:
                    file.seek(inner + length)
                    found, what = struct.unpack(">I4s", file.read(8))
                    if what == b"moov" and length + found < size:
                        _clean_moov(file, inner + length, found, names)
        at += size


def _clean_moov(file: BinaryIO, at: int, size: int, names: Collection[str]) -> None:
    file.seek(at)
    moov = bytearray(file.read(size))
    before = bytes(moov)
    for holder in ((8, size), *inner_boxes(moov, 8, size, b"udta")):
        for meta in inner_boxes(moov, *holder, b"meta"):
            _clean_meta(moov, *meta, {name.encode() for name in names})
    if bytes(moov) != before:
        file.seek(at)
        file.write(moov)


def _clean_meta(data: bytearray, start: int, end: int, names: set[bytes]) -> None:
    """Removes keys and their values from the body of a `meta` box with named keys; the bytes that
    this leaves become `free`."""
    body = start + (0 if data.startswith(b"hdlr", start + 4) else 4)  # MP4's has version and flags
    keys, values = find_box(data, body, end, b"keys"), find_box(data, body, end, b"ilst")
    if keys is None or values is None or keys[1] != values[0] - 8:
        return
    entries = list(_entries(data, keys[0] + 8, keys[1]))
    kept = [number for number, entry in enumerate(entries, 1) if entry[8:] not in names]
    if len(kept) == len(entries):
        return
    table = struct.pack(">II", 0, len(kept)) + b"".join(entries[number - 1] for number in kept)
    said = b"".join(entry[:4] + struct.pack(">I", kept.index(number) + 1) + entry[8:]
                    for entry in _entries(data, *values)
                    if (number := struct.unpack_from(">I", entry, 4)[0]) in kept)
    new = _box(b"keys", table) + _box(b"ilst", said)
    begin, after = keys[0] - 8, values[1]
    data[begin:after] = new + _box(b"free", bytes(after - begin - len(new) - 8))


def _entries(data: bytearray, at: int, end: int) -> Iterator[bytes]:
    while at + 8 <= end:
        size = struct.unpack_from(">I", data, at)[0]
        if size < 8 or at + size > end:
            return
        yield bytes(data[at:at + size])
        at += size


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


# -- Matroska, WebM (RFC 8794, RFC 9559) ----------------------------------------------------------------------------

_SEGMENT, _TAGS, _TAG, _SIMPLE, _NAME, _CRC = 0x18538067, 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0xBF
_UNKNOWN = -1


def _from_matroska(file: BinaryIO, names: set[str]) -> None:
    for kind, body, size in _level(file, 0):
        if kind != _SEGMENT:
            continue
        for inner, start, length in _level(file, body):
            if inner == _TAGS and length >= 0:
                file.seek(start)
                before = file.read(length)
                if len(before) == length and (after := _cleaned(before, names)) != before:
                    file.seek(start)
                    file.write(after)
        if size == _UNKNOWN:
            return


def _level(file: BinaryIO, at: int) -> Iterator[tuple[int, int, int]]:
    """Elements in a row from a place on: id, where the body begins, its size; ends at the first
    that makes no sense."""
    while True:
        file.seek(at)
        head = file.read(12)
        parsed = _head(head, 0)
        if parsed is None:
            return
        kind, body, size = parsed
        yield kind, at + body, size
        if size == _UNKNOWN:
            return
        at += body + size


def _head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """An element's id, where its body begins, and its size (_UNKNOWN for an open one)."""
    if at >= len(data) or not data[at]:
        return None
    length = 9 - data[at].bit_length()
    place = at + length
    if length > 4 or place >= len(data) or not data[place]:
        return None
    kind = int.from_bytes(data[at:place], "big")
    width = 9 - data[place].bit_length()
    coded = int.from_bytes(data[place:place + width], "big")
    if place + width > len(data):
        return None
    size = coded & ((1 << 7 * width) - 1)
    return kind, place + width, _UNKNOWN if size == (1 << 7 * width) - 1 else size


def _elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Elements of a body: id, and where each begins, its body begins, and it ends."""
    while start < end and (parsed := _head(data, start)) is not None:
        kind, body, size = parsed
        if size < 0 or body + size > end:
            return
        yield kind, start, body, body + size
        start = body + size


def _cleaned(tags: bytes, names: set[str]) -> bytes:
    """The body of the element Tags with the tags of these names turned into Void elements, and its
    checksum put right."""
    data, crc = bytearray(tags), None
    for kind, start, body, end in list(_elements(tags, 0, len(tags))):
        if kind == _CRC:
            crc = (body, end)
        if kind != _TAG:
            continue
        simple = [(s, e, _name(tags, b, e)) for k, s, b, e in _elements(tags, body, end) if k == _SIMPLE]
        ours = [(s, e) for s, e, name in simple if name in names]
        if ours and len(ours) == len(simple):
            ours = [(start, end)]  # a Tag without any SimpleTag is not allowed
        for s, e in ours:
            data[s:e] = _void(e - s)
    if crc is not None:
        data[crc[0]:crc[1]] = struct.pack("<I", zlib.crc32(data[crc[1]:]))
    return bytes(data)


def _name(data: bytes, start: int, end: int) -> str:
    return next((data[b:e].rstrip(b"\0").decode(errors="replace").lower()
                 for kind, _, b, e in _elements(data, start, end) if kind == _NAME), "")


def _void(length: int) -> bytes:
    """A Void element of so many bytes, at least 2."""
    if length < 10:
        return bytes((0xEC, 0x80 | (length - 2))) + bytes(length - 2)
    return b"\xec\x01" + (length - 9).to_bytes(7, "big") + bytes(length - 9)
