"""Bytes that cannot be in a whole packet, of codecs whose decoders say nothing of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np

from rtface.media.formats.coded_headers.bits import crc32
from rtface.media.formats.coded_headers.units import UNITS, Units

# Emulation prevention (H.264, 7.4.1; H.265, 7.4.2) leaves none of these in a unit.
_FORBIDDEN = re.compile(rb"\x00\x00(?:[\x00\x02]|\x03[^\x00-\x03])")
# Of the 150 blocks of a DIF sequence of DV (SMPTE 314M), those of video: 15 behind each of 9 blocks of sound.
_BLOCK, _BLOCKS, _SECTION, _REPAIRED = 80, 150, 4, 1 << 4
_VIDEO = np.array([6 + 16 * group + 1 + block for group in range(9) for block in range(15)])
# Of a slice of FFV1 of version 3 (RFC 9043): size (3 bytes), status and CRC.
_FOOTER = 8


def damage_check(codec: str, extradata: bytes) -> Callable[[bytes], bool] | None:
    """What tells whether a packet is damaged, where packets come in the order of the stream; None where no check is
    known. It never calls a whole packet damaged."""
    if (units := UNITS.get(codec)) is not None:
        return partial(_forbidden, units, units.length_size(extradata))
    check = {"dvvideo": DvBlocks, "ffv1": SliceChecksums}.get(codec)
    return check().damaged if check else None


def _forbidden(units: Units, size: int, packet: bytes) -> bool:
    """Whether a slice has a sequence of bytes that no slice has, such as those of a block that was zeroed."""
    slices = (unit for unit in units.split(packet, size) if units.kind(unit) in units.slices)
    # FFmpeg takes a length of 1 at the beginning for a start code.
    return not (size and packet[:4] == b"\0\0\0\1") and any(_FORBIDDEN.search(unit.rstrip(b"\0")) for unit in slices)


class DvBlocks:
    """Tells which packets of DV are damaged, by the numbers of the blocks of their video, and by the mark with which a
    tape deck says that it repaired a block; none before a packet without either."""

    def __init__(self) -> None:
        self._there = False

    def damaged(self, packet: bytes) -> bool:
        """Whether a block of a packet is not as it was recorded."""
        whole = False
        if len(packet) % (_BLOCK * _BLOCKS) == 0:
            blocks = np.frombuffer(packet, np.uint8).reshape(-1, _BLOCKS, _BLOCK)[:, _VIDEO]
            numbered = (blocks[..., 0] >> 5 == _SECTION) & (blocks[..., 2] == np.arange(len(_VIDEO)))
            whole = bool(np.all(numbered & (blocks[..., 3] < _REPAIRED)))
        self._there |= whole
        return self._there and not whole


class SliceChecksums:
    """Tells which packets of FFV1 are damaged, by checksums that FFmpeg's decoder compares without saying so; none of a
    stream without them, which shows in the first."""

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
