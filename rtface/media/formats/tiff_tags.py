"""Reads and writes directories of TIFF structures: EXIF, and TIFF headers. TIFF 6.0, EXIF 2.32, BigTIFF."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, Literal, TypeAlias

Directory: TypeAlias = "dict[int, tuple[int, int, bytes | Directory]]"
"""By tag: type, count, and the bytes of the values or the directory that it points to."""
Numbers: TypeAlias = "tuple[Any, ...]"
"""Values of a tag as numbers; a rational takes two."""

# `struct` codes of the value types; a rational has two.
_UNITS = dict(zip((*range(1, 14), 16, 17, 18), "BBHIIbBhiifdIQqQ", strict=True))
_BYTES = {kind: struct.calcsize(unit) * (1 + (kind in (5, 10))) for kind, unit in _UNITS.items()}
_INNER = {34665, 34853, 40965}  # tags of inner directories: EXIF, GPS, interoperability
_BIG = (b"+\0", b"\0+")
_LONG, _MOST, _DEEPEST = 4, 4096, 3

# Tags that affect how samples are displayed: limits and curves of the values, white, primaries, black and white.
TIFF_SHOWN = (280, 281, 301, 318, 319, 340, 341, 532)
TIFF_OF_VALUES = (280, 281, 301, 340, 341, 532)
"""Those that only apply to samples of the same model and depth."""
TIFF_FORM = (258, 262, 277, 339)
"""Bits, colour model, count and format of samples."""


def order_of(data: bytes) -> Literal["<", ">"]:
    """Returns the byte order of a TIFF structure, as a `struct` prefix."""
    return ">" if data[:2] == b"MM" else "<"


def numbers(tags: Directory, number: int, order: str) -> Numbers:
    """Returns a tag's values. Empty if the tag is missing or points to a directory."""
    kind, _, packed = tags.get(number, (1, 0, b""))
    unit = struct.Struct(order + _UNITS[kind])
    return tuple(value for (value,) in unit.iter_unpack(packed)) if isinstance(packed, bytes) else ()


def tag_of(kind: int, values: Numbers, order: str) -> tuple[int, int, bytes]:
    """Makes a tag of a type from numbers. This is the inverse of `numbers`."""
    packed = struct.pack(f"{order}{len(values)}{_UNITS[kind]}", *values)
    return kind, len(packed) // _BYTES[kind], packed


def read_directory(
    data: bytes, at: int | None = None, depth: int = 1, places: dict[int, int] | None = None
) -> Directory:
    """Reads a TIFF structure's first directory, or that at an offset. Damaged tags are left out. `places` receives the
    offsets of the values."""
    directory: Directory = {}
    order = order_of(data)
    word, room, head = ("Q", 8, "Q") if data[2:4] in _BIG else ("I", 4, "H")
    with suppress(struct.error):
        start: int = struct.unpack_from(order + word, data, room)[0] if at is None else at
        first, step = start + struct.calcsize(order + head), 4 + 2 * room
        entries = min(struct.unpack_from(order + head, data, start)[0], _MOST)
        for entry in range(first, first + entries * step, step):
            tag, kind, count = struct.unpack_from(f"{order}HH{word}", data, entry)
            size, place = count * _BYTES.get(kind, 0), entry + 4 + room
            if size > room:
                place = struct.unpack_from(order + word, data, place)[0]
            value = data[place : place + size]
            if tag in _INNER:
                inner = int.from_bytes(value, "big" if order == ">" else "little")
                if depth < _DEEPEST and (tags := read_directory(data, inner, depth + 1)):
                    directory[tag] = _LONG, 1, tags
            elif tag not in directory and size and len(value) == size:
                directory[tag] = kind, count, value
                if places is not None:
                    places[tag] = place
    return directory


def _written(tags: Directory, order: str, at: int) -> bytes:
    """Encodes a directory and its values for the offset `at`."""
    entries, values, end = b"", b"", at + 6 + 12 * len(tags)
    for tag, (kind, count, value) in sorted(tags.items()):
        place = struct.pack(order + "I", end + len(values))
        if isinstance(value, dict):
            values += _written(value, order, end + len(values))
        elif len(value) > 4:
            values += value + bytes(len(value) % 2)
        else:
            place = value.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, count) + place
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def with_directory(data: bytes, tags: Directory) -> bytes:
    """Returns a TIFF structure with a single new directory. Values of the old one stay in place."""
    data += bytes(len(data) % 2)
    return (
        data[:4] + struct.pack(order_of(data) + "I", len(data)) + data[8:] + _written(tags, order_of(data), len(data))
    )


def exif_with(tags: Directory, order: str) -> bytes:
    """Makes an EXIF block of tags whose values have this byte order."""
    return with_directory((b"II*\0" if order == "<" else b"MM\0*") + bytes(4), tags)
