"""FFV1 of version 3 (RFC 9043): the checksums of its slices, which FFmpeg's decoder compares without saying so."""

from __future__ import annotations

from rtface.media.formats.coded_headers.bits import crc32

_FOOTER = 8  # size (3 bytes), status and CRC of a slice


class SliceChecksums:
    """Tells which packets of a stream are damaged; none of a stream without checksums, which shows in the first."""

    def __init__(self) -> None:
        self._there = False

    def damaged(self, packet: bytes) -> bool:
        """Whether a slice of a packet is not as it was written."""
        whole, end = 0, len(packet)
        while end >= _FOOTER:
            begin = end - _FOOTER - int.from_bytes(packet[end - _FOOTER : end - 5], "big")
            if begin < 0 or crc32(packet[begin:end]):
                break
            whole, end = whole + 1, begin
        self._there |= whole > 0
        return self._there and end > 0
