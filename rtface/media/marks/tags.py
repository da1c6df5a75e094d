"""Changes tags of a finished film in place, without moving other data.

Containers write tags with their header, before it is clear whether any face will be corrected. At the end, tags
that do not apply are replaced or removed. The freed bytes become a free box (MP4, MOV) or a Void element (Matroska,
WebM).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO

from rtface.media.formats.matroska import CRC, SEGMENT, UNKNOWN, checksum, elements, level, void
from rtface.media.formats.mp4 import box, changed_index, find_box, inner_boxes

Texts = Mapping[str, str | None]
"""New texts of tags by lower-case names; None removes a tag. Other tags stay."""


def rewrite(file: BinaryIO, format: str, texts: Texts) -> None:
    """Changes global tags of a file in FFmpeg's container `format`. MPEG-TS has no tags.

    A tag keeps its old text if a longer text does not fit.
    """
    if format in ("mp4", "mov"):
        with changed_index(file) as moov:
            for holder in ((8, len(moov)), *inner_boxes(moov, 8, len(moov), b"udta")):
                for meta in inner_boxes(moov, *holder, b"meta"):
                    _change_meta(moov, *meta, texts)
    elif format in ("matroska", "webm"):
        _rewrite_matroska(file, texts)


# -- MP4, MOV (ISO 14496-12, QuickTime metadata keys) ---------------------------------------------------------------


def _change_meta(data: bytearray, start: int, end: int, texts: Texts) -> None:
    """Changes keys and values in a `meta` box with named keys. Freed bytes become a `free` box."""
    body = start + (0 if data.startswith(b"hdlr", start + 4) else 4)  # MP4's box starts with version and flags
    keys, values = find_box(data, body, end, b"keys"), find_box(data, body, end, b"ilst")
    if keys is None or values is None or keys[1] != values[0] - 8:
        return
    entries, value_entries = (
        [bytes(data[begin - 8 : stop]) for begin, stop in inner_boxes(data, *span)]
        for span in ((keys[0] + 8, keys[1]), values)
    )
    names = [entry[8:].decode(errors="replace").lower() for entry in entries]
    kept_numbers = [number for number, name in enumerate(names, 1) if texts.get(name, "") is not None]
    table = struct.pack(">II", 0, len(kept_numbers)) + b"".join(entries[number - 1] for number in kept_numbers)
    items = b""
    for entry in value_entries:
        number = struct.unpack_from(">I", entry, 4)[0]
        if number in kept_numbers:
            text = texts.get(names[number - 1])
            value = entry[8:] if text is None else box(b"data", entry[16:24] + text.encode())
            items += struct.pack(">II", 8 + len(value), kept_numbers.index(number) + 1) + value
    new = box(b"keys", table) + box(b"ilst", items)
    begin, after = keys[0] - 8, values[1]
    free_bytes = after - begin - len(new)
    if free_bytes == 0 or free_bytes >= 8:
        data[begin:after] = new + (box(b"free", bytes(free_bytes - 8)) if free_bytes else b"")


# -- Matroska, WebM (RFC 8794, RFC 9559) ----------------------------------------------------------------------------

_TAGS, _TAG, _SIMPLE, _NAME, _TEXT = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487


def _rewrite_matroska(file: BinaryIO, texts: Texts) -> None:
    for kind, body, size in level(file, 0):
        if kind != SEGMENT:
            continue
        for inner, start, length in level(file, body):
            if inner == _TAGS and length >= 0:
                file.seek(start)
                data = bytearray(file.read(length))
                _change_tags(data, texts)
                file.seek(start)
                file.write(data)
        if size == UNKNOWN:
            return


def _change_tags(data: bytearray, texts: Texts) -> None:
    """Changes tags of the Tags element in place, and updates its checksum."""
    original = bytes(data)
    outer = list(elements(original, 0, len(original)))
    inner = [one for kind, _, body, end in outer if kind == _TAG for one in elements(original, body, end)]
    for _, start, body, end in (one for one in inner if one[0] == _SIMPLE):
        parts = {kind: slice(first, last) for kind, _, first, last in elements(original, body, end)}
        name = original[parts.get(_NAME, slice(0))].rstrip(b"\0").decode(errors="replace").lower()
        text, place = texts.get(name, ""), parts.get(_TEXT, slice(0, 0))
        room = place.stop - place.start
        if text is None:
            data[start:end] = void(end - start)
        elif text and len(text.encode()) <= room:
            data[place] = text.encode().ljust(room, b"\0")
    if outer and outer[0][0] == CRC:
        end = outer[0][3]
        data[:end] = checksum(data[end:])
