"""Reads bits of headers, and splits streams into NAL units."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Literal

# Maximum number of leading zero bits in an Exp-Golomb code.
_MAX_ZEROS = 32


class Bits:
    """Reads the bits of a header in order. Methods raise IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._remaining = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Returns the next `count` bits as a number."""
        if not 0 <= count <= self._remaining:
            raise IndexError(count)
        self._remaining -= count
        return (self._value >> self._remaining) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Reads an unsigned Exp-Golomb code: ue(v) of H.264."""
        zeros = self._remaining - (self._value & ((1 << self._remaining) - 1)).bit_length()
        if zeros > _MAX_ZEROS:
            raise IndexError(zeros)
        return self.take(2 * zeros + 1) - 1

    def unary(self, lowest: int, highest: int) -> int:
        """Reads a unary number: `lowest` plus one for each 1 bit before a 0 bit, up to `highest`."""
        while lowest < highest and self.take(1):
            lowest += 1
        return lowest

    def signed(self) -> int:
        """Reads a signed Exp-Golomb code: se(v) of H.264."""
        value = self.golomb()
        return (value + 1) // 2 if value % 2 else -(value // 2)

    def skip_golomb(self, count: int) -> None:
        """Skips Exp-Golomb codes, signed or not."""
        for _ in range(count):
            self.golomb()

    def count(self, limit: int) -> int:
        """Reads ue(v) as the number of items that follow. Raises ValueError if it exceeds `limit`."""
        value = self.golomb()
        if value > limit:
            raise ValueError(value)
        return value


def unescaped(unit: bytes) -> bytes:
    """Removes emulation prevention bytes from a NAL unit of H.264 or HEVC."""
    return unit.replace(b"\0\0\3", b"\0\0")


def annex_b(data: bytes) -> Iterator[bytes]:
    """Yields the NAL units of H.264 or HEVC between start codes."""
    at = data.find(b"\0\0\1")
    while at >= 0:
        end = data.find(b"\0\0\1", at + 3)
        yield data[at + 3 : end if end >= 0 else len(data)]
        at = end


def prefixed(data: bytes, size: int) -> Iterator[bytes]:
    """Yields length-prefixed NAL units of H.264 or HEVC. `size`: bytes of a prefix. The last unit may be truncated."""
    at = 0
    while at + size <= len(data):
        length = int.from_bytes(data[at : at + size], "big")
        yield data[at + size : at + size + length]
        at += size + length


def parameter_sets(extradata: bytes, kind: Literal["avc", "hvc"]) -> Iterator[bytes]:
    """Yields the parameter sets of extradata: Annex B, or a configuration record (ISO 14496-15)."""
    if extradata[:1] != b"\1":
        yield from (unit for unit in annex_b(extradata) if len(unit) > 3)
        return
    at = 5 if kind == "avc" else 22
    arrays = 2 if kind == "avc" else extradata[at]
    at += kind == "hvc"
    for _ in range(arrays):
        if kind == "avc":
            count, at = extradata[at] & 31, at + 1
        else:
            count, at = extradata[at + 1] << 8 | extradata[at + 2], at + 3
        for _ in range(count):
            size = extradata[at] << 8 | extradata[at + 1]
            yield extradata[at + 2 : at + 2 + size]
            at += 2 + size


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """Returns the CRC-32 of FFV1 and Ogg: MSB first, with initial value 0. zlib computes it on reversed bits."""
    return int(f"{zlib.crc32(data.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)
