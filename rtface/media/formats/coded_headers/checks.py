"""Detects damaged packets of codecs whose decoders do not report damage."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from rtface.media.formats.coded_headers.bits import crc32
from rtface.media.formats.coded_headers.units import UNITS, Units

# Byte sequences that emulation prevention (H.264, 7.4.1; H.265, 7.4.2) excludes from NAL units.
_FORBIDDEN = re.compile(rb"\x00\x00(?:[\x00\x02]|\x03[^\x00-\x03])")
# A DIF sequence of DV (SMPTE 314M) has 150 blocks of 80 bytes; 15 video blocks follow each of its 9 audio blocks. The
# section type of video blocks is 4. The upper half of byte 3 is the status of a block: 0 unless it was repaired.
_BLOCK_BYTES, _BLOCKS, _VIDEO_SECTION, _MIN_REPAIRED = 80, 150, 4, 1 << 4
_VIDEO_BLOCKS = np.array([6 + 16 * group + 1 + block for group in range(9) for block in range(15)])
# An FFV1 version 3 slice (RFC 9043) ends with its size (3 bytes), status and CRC.
_FOOTER_BYTES = 8


def damage_check(codec: str, extradata: bytes) -> Callable[[bytes], bool] | None:
    """Returns a function that tells whether a packet is damaged. The function expects packets in stream order, and
    never reports an intact one. Returns None for codecs that cannot be checked."""
    if (units := UNITS.get(codec)) is not None:
        return partial(_has_forbidden_bytes, units, units.length_size(extradata))
    check = {"dvvideo": DvBlocks, "ffv1": SliceChecksums}.get(codec)
    return check().damaged if check else None


def _has_forbidden_bytes(units: Units, prefix: int, packet: bytes) -> bool:
    """Tells whether a slice contains forbidden bytes, as a zeroed block does."""
    slices = (unit for unit in units.split(packet, prefix) if units.kind(unit) in units.slices)
    # Packets that start with a length of 1 are not checked: FFmpeg mistakes this for a start code.
    return not (prefix and packet[:4] == b"\0\0\0\1") and any(_FORBIDDEN.search(unit.rstrip(b"\0")) for unit in slices)


class DvBlocks:
    """Detects damaged DV packets by their video block numbers and repair marks. A tape deck marks blocks that it
    repaired. Nothing is reported before the first packet with correct numbers and no marks."""

    def __init__(self) -> None:
        self._seen_intact = False

    def damaged(self, packet: bytes) -> bool:
        """Tells whether a packet has a damaged or repaired video block."""
        intact = False
        if len(packet) % (_BLOCK_BYTES * _BLOCKS) == 0:
            blocks = np.frombuffer(packet, np.uint8).reshape(-1, _BLOCKS, _BLOCK_BYTES)[:, _VIDEO_BLOCKS]
            numbered = (blocks[..., 0] >> 5 == _VIDEO_SECTION) & (blocks[..., 2] == np.arange(len(_VIDEO_BLOCKS)))
            intact = bool(np.all(numbered & (blocks[..., 3] < _MIN_REPAIRED)))
        self._seen_intact |= intact
        return self._seen_intact and not intact


class SliceChecksums:
    """Detects damaged FFV1 packets by checksums. FFmpeg's decoder does not report mismatches. Nothing is reported
    before the first packet with a correct checksum, so streams without checksums count as intact."""

    def __init__(self) -> None:
        self._seen_intact = False

    def damaged(self, packet: bytes) -> bool:
        """Tells whether a slice of a packet differs from what was written."""
        intact_slices, end = 0, len(packet)
        while end >= _FOOTER_BYTES:
            start = end - _FOOTER_BYTES - int.from_bytes(packet[end - _FOOTER_BYTES : end - 5], "big")
            if start < 0 or crc32(packet[start:end]):
                break
            intact_slices, end = intact_slices + 1, start
        self._seen_intact |= intact_slices > 0
        return self._seen_intact and end > 0
