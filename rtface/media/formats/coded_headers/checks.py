"""Detects damaged packets of codecs whose decoders do not report damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from rtface.media.formats.coded_headers.bits import crc32
from rtface.media.formats.coded_headers.units import UNITS, Units

# Emulation prevention (H.264, 7.4.1; H.265, 7.4.2) keeps these bytes out of a unit.
_FORBIDDEN = re.compile(rb"\x00\x00(?:[\x00\x02]|\x03[^\x00-\x03])")
# A DIF sequence of DV (SMPTE 314M) has 150 blocks; 15 video blocks follow each of its 9 audio blocks.
_BLOCK, _BLOCKS, _SECTION, _REPAIRED = 80, 150, 4, 1 << 4
_VIDEO = np.array([6 + 16 * group + 1 + block for group in range(9) for block in range(15)])
# End of an FFV1 version 3 slice (RFC 9043): size (3 bytes), status and CRC.
_FOOTER_BYTES = 8


def damage_check(codec: str, extradata: bytes) -> Callable[[bytes], bool] | None:
    """Returns a function that tells whether a packet is damaged. It takes packets in stream order and never rejects an
    intact one. None for codecs without a check."""
    if (units := UNITS.get(codec)) is not None:
        return partial(_forbidden, units, units.length_size(extradata))
    check = {"dvvideo": DvBlocks, "ffv1": SliceChecksums}.get(codec)
    return check().damaged if check else None


def _forbidden(units: Units, size: int, packet: bytes) -> bool:
    """Tells whether a slice has forbidden bytes, such as a zeroed block."""
    slices = (unit for unit in units.split(packet, size) if units.kind(unit) in units.slices)
    # FFmpeg mistakes a length of 1 at the beginning for a start code.
    return not (size and packet[:4] == b"\0\0\0\1") and any(_FORBIDDEN.search(unit.rstrip(b"\0")) for unit in slices)


class DvBlocks:
    """Detects damaged DV packets by their video block numbers and repair marks. A tape deck marks blocks that it
    repaired. Nothing is reported before the first packet with correct numbers and no marks."""

    def __init__(self) -> None:
        self._seen_intact = False

    def damaged(self, packet: bytes) -> bool:
        """Tells whether a block of a packet differs from the recording."""
        intact = False
        if len(packet) % (_BLOCK * _BLOCKS) == 0:
            blocks = np.frombuffer(packet, np.uint8).reshape(-1, _BLOCKS, _BLOCK)[:, _VIDEO]
            numbered = (blocks[..., 0] >> 5 == _SECTION) & (blocks[..., 2] == np.arange(len(_VIDEO)))
            intact = bool(np.all(numbered & (blocks[..., 3] < _REPAIRED)))
        self._seen_intact |= intact
        return self._seen_intact and not intact


class SliceChecksums:
    """Detects damaged FFV1 packets by checksums. FFmpeg's decoder checks them without reporting. Nothing is reported
    before the first packet with a correct checksum, so streams without checksums count as intact."""

    def __init__(self) -> None:
        self._seen_intact = False

    def damaged(self, packet: bytes) -> bool:
        """Tells whether a slice of a packet differs from what was written."""
        intact, end = 0, len(packet)
        while end >= _FOOTER_BYTES:
            begin = end - _FOOTER_BYTES - int.from_bytes(packet[end - _FOOTER_BYTES : end - 5], "big")
            if begin < 0 or crc32(packet[begin:end]):
                break
            intact, end = intact + 1, begin
        self._seen_intact |= intact > 0
        return self._seen_intact and end > 0
