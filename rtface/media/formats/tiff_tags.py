"""Directories of TIFF structures: what EXIF is, and the header of a TIFF file (TIFF 6.0, EXIF 2.32, BigTIFF)."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, Literal, TypeAlias

Directory: TypeAlias = "dict[int, tuple[int, int, bytes | Directory]]"
"""By tag: type, count, and the bytes of the values or the directory that the tag points to."""
Numbers: TypeAlias = "tuple[Any, ...]"
"""Values of a tag, in no byte order; a rational is two."""

# Units of the types of values, as `struct` has them; two of a type make a rational.
_UNITS = dict(zip((*range(1, 14), 16, 17, 18), "BBHIIbBhiifdIQqQ", strict=True))
_BYTES = {kind: struct.calcsize(unit) * (1 + (kind in (5, 10))) for kind, unit in _UNITS.items()}
_INNER = {34665, 34853, 40965}  # EXIF, GPS, interoperability
_BIG = (b"+\0", b"\0+")
_LONG, _MOST, _DEEPEST = 4, 4096, 3

# Tags that go along with the samples: limits and curves of the values, white, primaries, black and white.
TIFF_SHOWN = (280, 281, 301, 318, 319, 340, 341, 532)
TIFF_OF_VALUES = (280, 281, 301, 340, 341, 532)
"""Those that hold for samples of the same kind and depth only."""
TIFF_FORM = (258, 262, 277, 339)
"""Bits, kind of colours, number and format of samples."""


def order_of(data: bytes) -> Literal["<", ">"]:
    """The byte order of a TIFF structure, as `struct` has it."""
    return ">" if data[:2] == b"MM" else "<"


def numbers(tags: Directory, number: int, order: str) -> Numbers:
    """The values of a tag; none where it is missing or points to a directory."""
    kind, _, said = tags.get(number, (1, 0, b""))
    unit = struct.Struct(order + _UNITS[kind])
    return tuple(value for (value,) in unit.iter_unpack(said)) if isinstance(said, bytes) else ()


def tag_of(kind: int, values: Numbers, order: str) -> tuple[int, int, bytes]:
    """A tag of a type, the inverse of `numbers`."""
    said = struct.pack(f"{order}{len(values)}{_UNITS[kind]}", *values)
    return kind, len(said) // _BYTES[kind], said


def read_directory(
    data: bytes, at: int | None = None, depth: int = 1, places: dict[int, int] | None = None
) -> Directory:
    """The first directory of a TIFF structure, or the one at an offset; tags that are damaged are left out. `places`
    receives where the values lie."""
    found: Directory = {}
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
                    found[tag] = _LONG, 1, tags
            elif tag not in found and size and len(value) == size:
                found[tag] = kind, count, value
                if places is not None:
                    places[tag] = place
    return found


def _written(tags: Directory, order: str, at: int) -> bytes:
    """A directory and its values, to stand at an offset."""
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
    """A TIFF structure with another first, and only, directory; values of the old one stay where they are."""
    data += bytes(len(data) % 2)
    return (
        data[:4] + struct.pack(order_of(data) + "I", len(data)) + data[8:] + _written(tags, order_of(data), len(data))
    )


def exif_with(tags: Directory, order: str) -> bytes:
    """An EXIF block of these tags, whose values are in this byte order."""
    return with_directory((b"II*\0" if order == "<" else b"MM\0*") + bytes(4), tags)
