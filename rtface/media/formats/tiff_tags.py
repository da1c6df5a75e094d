"""Reads and writes tag directories of TIFF files and EXIF. TIFF 6.0, EXIF 2.32, BigTIFF."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, Literal, TypeAlias

Directory: TypeAlias = "dict[int, tuple[int, int, bytes | Directory]]"
"""Type, count and value of each tag. The value is bytes, or the directory that the tag points to."""
Numbers: TypeAlias = "tuple[Any, ...]"
"""Values of a tag as numbers; each rational is two numbers."""

# `struct` codes of the value types. A rational consists of two numbers of its code.
_CODES = dict(zip((*range(1, 14), 16, 17, 18), "BBHIIbBhiifdIQqQ", strict=True))
_BYTES = {kind: struct.calcsize(unit) * (1 + (kind in (5, 10))) for kind, unit in _CODES.items()}
_DIRECTORY_TAGS = {34665, 34853, 40965}  # tags that point to directories: EXIF, GPS, interoperability
_BIG_TIFF = (b"+\0", b"\0+")
_LONG, _MAX_TAGS, _MAX_DEPTH = 4, 4096, 3

# Tags that affect how samples are displayed: limits and curves of the values, white, primaries, black and white.
TIFF_SHOWN = (280, 281, 301, 318, 319, 340, 341, 532)
TIFF_OF_VALUES = (280, 281, 301, 340, 341, 532)
"""Tags of TIFF_SHOWN that only apply to samples of the same model and depth."""
TIFF_FORM = (258, 262, 277, 339)
"""Tags of the bits, colour model, count and format of samples."""


def order_of(data: bytes) -> Literal["<", ">"]:
    """Returns the byte order of a TIFF structure, as a `struct` prefix."""
    return ">" if data[:2] == b"MM" else "<"


def numbers(tags: Directory, number: int, order: str) -> Numbers:
    """Returns a tag's values. There are none if the tag is missing or points to a directory."""
    kind, _, packed = tags.get(number, (1, 0, b""))
    unit = struct.Struct(order + _CODES[kind])
    return tuple(value for (value,) in unit.iter_unpack(packed)) if isinstance(packed, bytes) else ()


def tag_of(kind: int, values: Numbers, order: str) -> tuple[int, int, bytes]:
    """Creates a tag of a type from numbers. This is the inverse of `numbers`."""
    packed = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
    return kind, len(packed) // _BYTES[kind], packed


def read_directory(
    data: bytes, at: int | None = None, depth: int = 1, places: dict[int, int] | None = None
) -> Directory:
    """Reads a TIFF structure's first directory, or the directory at offset `at`. Damaged tags are left out. `places`
    receives the offset of each tag's values."""
    directory: Directory = {}
    order = order_of(data)
    offset_code, inline_bytes, count_code = ("Q", 8, "Q") if data[2:4] in _BIG_TIFF else ("I", 4, "H")
    with suppress(struct.error):
        start: int = struct.unpack_from(order + offset_code, data, inline_bytes)[0] if at is None else at
        first, step = start + struct.calcsize(order + count_code), 4 + 2 * inline_bytes
        entries = min(struct.unpack_from(order + count_code, data, start)[0], _MAX_TAGS)
        for entry in range(first, first + entries * step, step):
            tag, kind, count = struct.unpack_from(f"{order}HH{offset_code}", data, entry)
            size, value_at = count * _BYTES.get(kind, 0), entry + 4 + inline_bytes
            if size > inline_bytes:
                value_at = struct.unpack_from(order + offset_code, data, value_at)[0]
            value = data[value_at : value_at + size]
            if tag in _DIRECTORY_TAGS:
                inner = int.from_bytes(value, "big" if order == ">" else "little")
                if depth < _MAX_DEPTH and (tags := read_directory(data, inner, depth + 1)):
                    directory[tag] = _LONG, 1, tags
            elif tag not in directory and size and len(value) == size:
                directory[tag] = kind, count, value
                if places is not None:
                    places[tag] = value_at
    return directory


def _encode(tags: Directory, order: str, at: int) -> bytes:
    """Encodes a directory and its values for the offset `at`."""
    entries, values, end = b"", b"", at + 6 + 12 * len(tags)
    for tag, (kind, count, value) in sorted(tags.items()):
        field = struct.pack(order + "I", end + len(values))
        if isinstance(value, dict):
            values += _encode(value, order, end + len(values))
        elif len(value) > 4:
            values += value + bytes(len(value) % 2)
        else:
            field = value.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, count) + field
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def with_directory(data: bytes, tags: Directory) -> bytes:
    """Replaces all directories of a TIFF structure by one at its end. Existing data stays in place."""
    data += bytes(len(data) % 2)
    return data[:4] + struct.pack(order_of(data) + "I", len(data)) + data[8:] + _encode(tags, order_of(data), len(data))


def exif_with(tags: Directory, order: str) -> bytes:
    """Creates an EXIF block. The values in `tags` have the byte order `order`."""
    return with_directory((b"II*\0" if order == "<" else b"MM\0*") + bytes(4), tags)
