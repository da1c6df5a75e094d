"""FFV1 of version 3 (RFC 9043): the checksums of its slices, which FFmpeg's decoder compares, but tells nobody of."""

from __future__ import annotations

import zlib

_FOOTER = 8  # size (3 bytes), status and CRC of a slice
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class SliceChecksums:
    """Tells which packets of a stream are damaged; none of a stream without checksums, which shows in the first."""

    def __init__(self) -> None:
        self._there = False

    def damaged(self, packet: bytes) -> bool:
        """Whether a slice of a packet is not as it was written."""
        whole, end = 0, len(packet)
        while end >= _FOOTER:
            begin = end - _FOOTER - int.from_bytes(packet[end - _FOOTER : end - 5], "big")
            if begin < 0 or not _sound(packet[begin:end]):
                break
            whole, end = whole + 1, begin
        self._there |= whole > 0
        return self._there and end > 0


def _sound(sliced: bytes) -> bool:
    """Whether the CRC-32 of a slice and its own checksum is 0: that of zlib, of mirrored bits and begun with 0."""
    return zlib.crc32(sliced.translate(_MIRRORED), 0xFFFFFFFF) == 0xFFFFFFFF
