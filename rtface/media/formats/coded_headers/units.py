"""The units that coded frames of H.264 and HEVC are made of (ITU-T H.264, 7.4.1; H.265, 7.4.2), and their records."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from rtface.media.formats.coded_headers.bits import annex_b, parameter_sets, prefixed, unescaped
from rtface.media.formats.coded_headers.h264 import H264Slices
from rtface.media.formats.coded_headers.hevc import HevcSlices

BLA = 18
"""HEVC's kind of slices of frames that begin a group without leading frames."""


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a codec.

    Attributes:
        record: its header in containers with lengths before the units (ISO 14496-15).
        sets: kinds of parameter sets.
        idr: kinds of slices that begin a group on which nothing before has a bearing.
        open: kinds of slices that begin a group without its frames of the kinds `leading`, which refer to what came
            before.
        slices: kinds of units with samples.
        unknown: kinds that say of frames what an encoder here does not (Dolby Vision).
        reader: of slices.
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
        """Of a unit; -1 where it is empty."""
        if not unit:
            return -1
        return unit[0] & 31 if self.record == "avc" else unit[0] >> 1 & 63

    def length_size(self, extradata: bytes) -> int:
        """Bytes of the length before each unit of a stream with this extradata; 0 where start codes are between
        them."""
        at = 4 if self.record == "avc" else 21
        return 1 + (extradata[at] & 3) if extradata[:1] == b"\1" and len(extradata) > at + 1 else 0

    def split(self, data: bytes, size: int) -> Iterator[bytes]:
        """The units of a coded frame, with `length_size` of its stream."""
        return prefixed(data, size) if size else annex_b(data)

    def hidden_in(self, data: bytes, extradata: bytes) -> Iterator[str]:
        """Names the layers of units that FFmpeg's decoder passes over: MVC, SVC, "layer"."""
        for unit in self.split(data, self.length_size(extradata)):
            if self.record == "avc" and self.kind(unit) == 20 and len(unit) > 1:
                yield "SVC" if unit[1] & 0x80 else "MVC"
            elif self.record == "hvc" and len(unit) > 2 and ((unit[0] & 1) << 5 | unit[1] >> 3):
                yield "layer"

    def sets_of(self, extradata: bytes) -> Iterator[bytes]:
        """The parameter sets of a stream's extradata, without zeros behind them."""
        for unit in parameter_sets(extradata, self.record):
            if self.kind(unit) in self.sets:
                yield unit.rstrip(b"\0")

    def primed(self, extradata: bytes) -> H264Slices | HevcSlices:
        """Makes a reader of slices that knows the parameter sets of a stream's extradata."""
        slices = self.reader()
        with suppress(IndexError, KeyError, ValueError):  # they may come again in packets
            for unit in parameter_sets(extradata, self.record):
                slices.read(unit)
        return slices

    def extended(self, record: bytes, own: list[bytes]) -> bytes:
        """A record with further parameter sets."""
        out, at = bytearray(record), 5
        if self.record == "hvc":
            out[12] = max([out[12], *(unescaped(unit)[14] for unit in own if self.kind(unit) == 33)])  # the level
            for unit in own:
                out += bytes((0x80 | self.kind(unit), 0, 1)) + len(unit).to_bytes(2, "big") + unit
            out[22] += len(own)
            return bytes(out)
        for first in (True, False):
            more = [unit for unit in own if (self.kind(unit) == self.sets[0]) == first]
            count, end = out[at] & 31, at + 1
            for _ in range(count):
                end += 2 + int.from_bytes(out[end : end + 2], "big")
            out[at] += len(more)
            out[end:end] = added = b"".join(len(unit).to_bytes(2, "big") + unit for unit in more)
            at = end + len(added)
        return bytes(out)


UNITS = {
    "h264": Units("avc", (7, 8), (5,), (), (), range(1, 6), (), H264Slices),
    "hevc": Units("hvc", (32, 33, 34), (19, 20), (21,), (8, 9), range(32), (62, 63), HevcSlices),
}
"""By FFmpeg's name of the codec."""
