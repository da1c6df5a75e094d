"""Splits H.264 and HEVC frames into NAL units, and edits configuration records. ITU-T H.264, 7.4.1; H.265, 7.4.2."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from rtface.media.formats.coded_headers.bits import annex_b, parameter_sets, prefixed, unescaped
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.formats.coded_headers.hevc import HevcSlices

BLA = 18
"""HEVC's NAL unit type of broken link access pictures without leading pictures (BLA_N_LP)."""


@dataclass(frozen=True, slots=True)
class Units:
    """Describes a codec's NAL unit types, and how streams store them.

    Attributes:
        record: type of its decoder configuration record: avcC or hvcC.
        sets: types of parameter sets.
        idr: types of slices that start a closed GOP.
        open: types of slices that start an open GOP.
        leading: types of the open GOP's leading slices, which may reference the previous GOP.
        slices: types of NAL units that contain samples.
        unknown: types with frame data that rtface's encoders do not write (Dolby Vision).
        reader: class that reads its slices.
    """

    record: Literal["avc", "hvc"]
    sets: tuple[int, ...]
    idr: tuple[int, ...]
    open: tuple[int, ...]
    leading: tuple[int, ...]
    slices: Container[int]
    unknown: Container[int]
    reader: type[H264Slices] | type[HevcSlices]

    def kind(self, unit: bytes) -> int:
        """Returns the type of a NAL unit. An empty unit has type -1."""
        if not unit:
            return -1
        return unit[0] & 31 if self.record == "avc" else unit[0] >> 1 & 63

    def length_size(self, extradata: bytes) -> int:
        """Returns the size of a NAL unit's length prefix in bytes. 0 means that the stream has start codes."""
        at = 4 if self.record == "avc" else 21
        return 1 + (extradata[at] & 3) if extradata[:1] == b"\1" and len(extradata) > at + 1 else 0

    def split(self, data: bytes, size: int) -> Iterator[bytes]:
        """Yields the NAL units of a coded frame. `size` is the `length_size` of its stream."""
        return prefixed(data, size) if size else annex_b(data)

    def hidden_in(self, data: bytes, extradata: bytes) -> Iterator[str]:
        """Yields names of layers that FFmpeg's decoder skips: "MVC", "SVC" or "layer" (HEVC)."""
        for unit in self.split(data, self.length_size(extradata)):
            if self.record == "avc" and self.kind(unit) == 20 and len(unit) > 1:
                yield "SVC" if unit[1] & 0x80 else "MVC"
            elif self.record == "hvc" and len(unit) > 2 and ((unit[0] & 1) << 5 | unit[1] >> 3):
                yield "layer"

    def sets_of(self, extradata: bytes) -> Iterator[bytes]:
        """Yields the parameter sets of extradata, without trailing zeros."""
        for unit in parameter_sets(extradata, self.record):
            if self.kind(unit) in self.sets:
                yield unit.rstrip(b"\0")

    def primed(self, extradata: bytes) -> H264Slices | HevcSlices:
        """Returns a slice reader that has read the parameter sets of extradata."""
        slices = self.reader()
        with suppress(IndexError, KeyError, ValueError):  # packets may repeat the sets
            for unit in parameter_sets(extradata, self.record):
                slices.read(unit)
        return slices

    def extended(self, record: bytes, sets: list[bytes]) -> bytes:
        """Returns a decoder configuration record with additional parameter sets."""
        out, at = bytearray(record), 5
        if self.record == "hvc":
            out[12] = max([out[12], *(unescaped(unit)[14] for unit in sets if self.kind(unit) == 33)])  # the level
            for unit in sets:
                out += bytes((0x80 | self.kind(unit), 0, 1)) + len(unit).to_bytes(2, "big") + unit
            out[22] += len(sets)
            return bytes(out)
        for first in (True, False):
            added = [unit for unit in sets if (self.kind(unit) == self.sets[0]) == first]
            count, end = out[at] & 31, at + 1
            for _ in range(count):
                end += 2 + int.from_bytes(out[end : end + 2], "big")
            out[at] += len(added)
            out[end:end] = coded = b"".join(len(unit).to_bytes(2, "big") + unit for unit in added)
            at = end + len(coded)
        return bytes(out)


UNITS = {
    "h264": Units("avc", (7, 8), (5,), (), (), range(1, 6), (), H264Slices),
    "hevc": Units("hvc", (32, 33, 34), (19, 20), (21,), (8, 9), range(32), (62, 63), HevcSlices),
}
"""Keyed by FFmpeg's codec names."""
