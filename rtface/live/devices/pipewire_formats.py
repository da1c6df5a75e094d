"""Encodes and decodes PipeWire's parameters (SPA POD): formats of video streams and their buffers."""

from __future__ import annotations

import struct
from collections.abc import Mapping

FORMATS = {"yuv420p": 2, "nv12": 23, "yuyv422": 4, "uyvy422": 5, "rgb24": 15, "bgr24": 16, "rgb0": 7, "bgr0": 8}
"""PipeWire's numbers of pixel formats, by FFmpeg's names."""
PIXEL_FORMAT, SIZE, RATE = 0x20001, 0x20003, 0x20004
"""Keys of a format's properties."""

_ENUM_FORMAT, _BUFFERS = 3, 5  # enum spa_param_type
_FORMAT_OBJECT, _BUFFERS_OBJECT = 0x40003, 0x40004
_ID, _INT, _RECTANGLE, _FRACTION, _OBJECT, _CHOICE = 3, 4, 10, 11, 15, 19  # types of values
_RANGE, _ENUM, _FLAGS = 1, 3, 4  # kinds of choices
_MEDIA = {1: 2, 2: 1}  # media type: video; subtype: raw
_MEMORY = 1 << 1 | 1 << 2  # buffers are pointers or shared files, not DMA buffers


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("=II", len(body), kind) + body + bytes(-len(body) % 8)


def _choice(choice: int, kind: int, *values: bytes) -> bytes:
    """Encodes a range (default, least, most), an enumeration (default, all) or flags."""
    return _pod(_CHOICE, struct.pack("=IIII", choice, 0, len(values[0]), kind) + b"".join(values))


def _object(kind: int, param: int, properties: Mapping[int, bytes]) -> bytes:
    body = b"".join(struct.pack("=II", key, 0) + value for key, value in properties.items())
    return _pod(_OBJECT, struct.pack("=II", kind, param) + body)


def _format(properties: Mapping[int, bytes]) -> bytes:
    media = {key: _pod(_ID, struct.pack("=I", value)) for key, value in _MEDIA.items()}
    return _object(_FORMAT_OBJECT, _ENUM_FORMAT, {**media, **properties})


def fixed_format(pixel_format: str, width: int, height: int, rate: tuple[int, int]) -> bytes:
    """Encodes one format of raw video."""
    return _format(
        {
            PIXEL_FORMAT: _pod(_ID, struct.pack("=I", FORMATS[pixel_format])),
            SIZE: _pod(_RECTANGLE, struct.pack("=II", width, height)),
            RATE: _pod(_FRACTION, struct.pack("=II", *rate)),
        }
    )


def any_format(size: tuple[int, int], rate: tuple[int, int]) -> bytes:
    """Encodes all readable formats, with a preferred size and rate."""
    numbers = [struct.pack("=I", number) for number in FORMATS.values()]
    sizes = (struct.pack("=II", *pair) for pair in (size, (1, 1), (8192, 8192)))
    rates = (struct.pack("=II", *pair) for pair in (rate, (0, 1), (1000, 1)))
    return _format(
        {
            PIXEL_FORMAT: _choice(_ENUM, _ID, numbers[0], *numbers),
            SIZE: _choice(_RANGE, _RECTANGLE, *sizes),
            RATE: _choice(_RANGE, _FRACTION, *rates),
        }
    )


def buffers(count: int, size: int, stride: int) -> bytes:
    """Encodes the buffers that a stream needs. A `size` of 0 leaves size and stride to the other side."""
    counts = (struct.pack("=i", number) for number in (count, 2, 2 * count))
    layout = {3: _pod(_INT, struct.pack("=i", size)), 4: _pod(_INT, struct.pack("=i", stride))} if size else {}
    memory = _choice(_FLAGS, _INT, struct.pack("=i", _MEMORY))
    return _object(_BUFFERS_OBJECT, _BUFFERS, {1: _choice(_RANGE, _INT, *counts)} | layout | {6: memory})


def read_object(data: bytes) -> dict[int, tuple[int, ...]]:
    """Decodes an object's numbers, by key. Choices are decoded to their default."""
    values, at = dict[int, tuple[int, ...]](), 16
    end = 8 + struct.unpack_from("=I", data)[0]
    while at + 16 <= end:
        key, _, size, kind = struct.unpack_from("=IIII", data, at)
        start, length, value_kind = at + 16, size, kind
        if kind == _CHOICE:
            length, value_kind = struct.unpack_from("=II", data, start + 8)
            start += 16
        if value_kind in (_ID, _INT, _RECTANGLE, _FRACTION):
            values[key] = struct.unpack_from(f"={length // 4}I", data, start)
        at += 16 + size + -size % 8
    return values
