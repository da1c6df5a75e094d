"""Changes tags of a finished film in place, without moving anything else in the file.

Containers write their tags with the header, before it is known whether any face will be corrected.
At the end the tags that turned out not to be true are replaced or taken out: the bytes that this
leaves become free space (MP4, MOV) or a Void element (Matroska, WebM).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from rtface.media.formats.matroska import CRC, SEGMENT, UNKNOWN, checksum, element, elements, level, longer, void
from rtface.media.formats.mp4 import box, boxes, find_box, inner_boxes

Texts = Mapping[str, str | None]
"""New texts of tags by their names in lower case; None takes a tag out. Other tags stay."""


def rewrite(file: BinaryIO, format: str, texts: Texts) -> None:
    """Changes global tags that a file in FFmpeg's container `format` has; MPEG-TS has none.

    All of them together may not become longer: where there is no room, the tags stay as they are.
    """
    if not texts:
        return
    if format in ("mp4", "mov"):
        _in_mp4(file, texts)
    elif format in ("matroska", "webm"):
        _in_matroska(file, texts)


# -- MP4, MOV (ISO 14496-12, QuickTime metadata keys) ---------------------------------------------------------------


def _in_mp4(file: BinaryIO, texts: Texts) -> None:
    at = 0
    for kind, size in list(boxes(file)):
        if kind == b"moov":
            _change_moov(file, at, size, texts)
        elif kind == b"mdat":  # FFmpeg's fragments, once whole, leave their first header at the beginning of it
            for inner in (at + 8, at + 16):
                file.seek(inner)
                head = file.read(8)
                if head[4:] == b"ftyp" and (length := struct.unpack(">I", head[:4])[0]) < size:
                    file.seek(inner + length)
                    found, what = struct.unpack(">I4s", file.read(8))
                    if what == b"moov" and length + found < size:
                        _change_moov(file, inner + length, found, texts)
        at += size


def _change_moov(file: BinaryIO, at: int, size: int, texts: Texts) -> None:
    file.seek(at)
    moov = bytearray(file.read(size))
    before = bytes(moov)
    for holder in ((8, size), *inner_boxes(moov, 8, size, b"udta")):
        for meta in inner_boxes(moov, *holder, b"meta"):
            _change_meta(moov, *meta, texts)
    if bytes(moov) != before:
        file.seek(at)
        file.write(moov)


def _change_meta(data: bytearray, start: int, end: int, texts: Texts) -> None:
    """Changes keys and their values in the body of a `meta` box with named keys; the bytes that
    this leaves become `free`."""
    body = start + (0 if data.startswith(b"hdlr", start + 4) else 4)  # MP4's has version and flags
    keys, values = find_box(data, body, end, b"keys"), find_box(data, body, end, b"ilst")
    if keys is None or values is None or keys[1] != values[0] - 8:
        return
    entries = list(_entries(data, keys[0] + 8, keys[1]))
    names = [entry[8:].decode(errors="replace").lower() for entry in entries]
    kept = [number for number, name in enumerate(names, 1) if texts.get(name, "") is not None]
    table = struct.pack(">II", 0, len(kept)) + b"".join(entries[number - 1] for number in kept)
    said = b""
    for entry in _entries(data, *values):
        number = struct.unpack_from(">I", entry, 4)[0]
        if number in kept:
            text = texts.get(names[number - 1])
            value = entry[8:] if text is None else box(b"data", entry[16:24] + text.encode())
            said += struct.pack(">II", 8 + len(value), kept.index(number) + 1) + value
    new = box(b"keys", table) + box(b"ilst", said)
    begin, after = keys[0] - 8, values[1]
    free = after - begin - len(new)
    if free == 0 or free >= 8:
        data[begin:after] = new + (box(b"free", bytes(free - 8)) if free else b"")


def _entries(data: bytearray, at: int, end: int) -> Iterator[bytes]:
    while at + 8 <= end:
        size = struct.unpack_from(">I", data, at)[0]
        if size < 8 or at + size > end:
            return
        yield bytes(data[at : at + size])
        at += size


# -- Matroska, WebM (RFC 8794, RFC 9559) ----------------------------------------------------------------------------

_TAGS, _TAG, _SIMPLE, _NAME, _TEXT = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487


def _in_matroska(file: BinaryIO, texts: Texts) -> None:
    for kind, body, size in level(file, 0):
        if kind != SEGMENT:
            continue
        for inner, start, length in level(file, body):
            if inner == _TAGS and length >= 0:
                file.seek(start)
                before = file.read(length)
                if len(before) == length and (after := _changed(before, texts)) != before:
                    file.seek(start)
                    file.write(after)
        if size == UNKNOWN:
            return


def _changed(tags: bytes, texts: Texts) -> bytes:
    """The body of the element Tags with other texts, as long as before, and its checksum put right."""
    parts, checked = list[bytes](), False
    for kind, start, body, end in elements(tags, 0, len(tags)):
        if kind == CRC:
            checked = True
        elif kind != _TAG:
            parts.append(tags[start:end])
        else:
            simple = [
                (tags[s:e] if k != _SIMPLE else _changed_tag(tags, s, b, e, texts), k)
                for k, s, b, e in elements(tags, body, end)
            ]
            if any(part and k == _SIMPLE for part, k in simple):  # a Tag without a SimpleTag is not allowed
                whole = b"".join(part for part, _ in simple)
                parts.append(tags[start:end] if len(whole) == end - body else element(_TAG, whole))
    free = len(tags) - sum(map(len, parts)) - 6 * checked
    if free == 1:  # a Void element takes two bytes: a longer length of the last part takes one
        free, parts[-1] = 0, longer(parts[-1])
    if free < 0:
        return tags
    data = b"".join(parts) + (void(free) if free else b"")
    return (checksum(data) if checked else b"") + data


def _changed_tag(data: bytes, start: int, body: int, end: int, texts: Texts) -> bytes:
    """A SimpleTag with its new text; nothing where it is taken out."""
    name = _name(data, body, end)
    if name not in texts:
        return data[start:end]
    if (text := texts[name]) is None:
        return b""
    return element(
        _SIMPLE,
        b"".join(
            element(_TEXT, text.encode()) if k == _TEXT else data[s:e] for k, s, _, e in elements(data, body, end)
        ),
    )


def _name(data: bytes, start: int, end: int) -> str:
    return next(
        (
            data[b:e].rstrip(b"\0").decode(errors="replace").lower()
            for kind, _, b, e in elements(data, start, end)
            if kind == _NAME
        ),
        "",
    )
