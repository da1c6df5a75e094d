"""Detects damaged and missing frames that the decoder does not report."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import av

from rtface.media.formats.coded_headers.checks import damage_check
from rtface.media.formats.coded_headers.steps import gap_reader

_MAX_EXPECTED = 4096
"""Maximum number of expected frames to remember."""
_PER_PACKET = ("hevc", "ffv1", "av1")  # each packet becomes a frame (AV1: a temporal unit has one shown frame, 7.5)


def _is_shown(codec: str, head: bytes) -> bool:
    """Returns whether a packet is shown as a frame. `head` is its first 2 bytes."""
    bits = int.from_bytes(head.ljust(2, b"\0"), "big")
    if codec == "vp8":  # RFC 6386, 9.1: show_frame
        return bool(bits & 0x1000)
    # VP9 bitstream, 6.2: marker, profile, show_existing_frame, frame_type, show_frame; profile 3 has one more bit
    return codec != "vp9" or bool(bits << (bits >= 0xB000) & 0x0A00)


class Concealment:
    """Tells which frames of a decoder are damaged or missing.

    A frame is damaged if the demuxer or `damage_check` finds its packet damaged, if the decoder repaired it, or if it
    follows a gap. All later frames up to the next I-frame count as damaged, too. In H.264, gaps in the numbers of
    reference frames show missing frames. In HEVC, VP8, VP9, AV1 and intra-only codecs, expected frames are missing if
    the decoder dropped them, for example those in all its threads if one fails at the end.

    Args:
        context: the decoder, not opened yet. An MJPEG decoder is set to reject damaged frames, which `again` decodes.
    """

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._rejects = context.codec.canonical_name == "mjpeg"  # this decoder does not report concealment
        self._damaged_since = inf  # time of the first damaged frame since the last intact I-frame
        self._reported = False  # whether the demuxer reported the last packet as damaged
        self._suspect: float | None = None  # time of the packet after the reported one
        self._last_shown, self._uncounted = -inf, 0
        self._counted_at = -inf  # time of the last frame whose predecessors were counted
        self._lenient: av.VideoCodecContext | None = None
        self._codec, header = context.codec.canonical_name, bytes(context.extradata or b"")
        self._gap, self._check = gap_reader(self._codec, header), damage_check(self._codec, header)
        # Time of the frame after a gap; number of missing frames; how many of these arrived but could not be decoded.
        self._gaps: list[tuple[float, int, int]] = []
        self._unreadable = 0  # number of consecutive packets without a readable frame
        self._expects = self._codec in (*_PER_PACKET, "vp8", "vp9") or (context.codec.intra_only and not self._rejects)
        self._expected: set[float] = set()  # times of expected frames
        # Errors whose frames are not counted as missing yet. With several threads, errors come some packets late.
        self._failed, self._failed_at = 0, -inf
        if self._rejects:
            context.options = {**context.options, "err_detect": "explode"}

    def note(self, packet: av.Packet[Any], *, expected: bool = True) -> None:
        """Examines each packet before it is decoded.

        Args:
            expected: whether a frame is expected from this packet.
        """
        expected = expected and not packet.is_discard  # an edit list hides it
        shown = self._expects and _is_shown(self._codec, bytes(memoryview(packet)[:2]))
        if shown and expected and packet.pts is not None and len(self._expected) < _MAX_EXPECTED:
            self._expected.add(packet.pts)
        if self._check and self._check(bytes(packet)):
            self._damaged_since = min(self._damaged_since, _stamp(packet))
        missing = self._gap(memoryview(packet)) if self._gap else None
        if missing and not packet.is_keyframe:
            self._damaged_since = min(self._damaged_since, _stamp(packet))
            if expected:
                self._gaps.append((_stamp(packet), missing, min(missing, self._unreadable)))
        self._unreadable = self._unreadable + 1 if missing is None else 0
        # FFmpeg's parsers report one packet early: the packet after the reported one is damaged. If two streams were
        # joined there, that packet is intact, and an I-frame follows it.
        if (stamp := self._suspect) is not None and stamp < self._damaged_since and not packet.is_keyframe:
            self._damaged_since = stamp
            self._uncounted += self._last_shown >= stamp
        self._suspect = _stamp(packet) if self._reported else None
        self._reported = packet.is_corrupt
        if self._suspect is not None and packet.is_keyframe:
            self._damaged_since, self._suspect = min(self._damaged_since, self._suspect), None

    def again(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """Decodes a rejected packet leniently. Returns an empty list if that fails.

        None stands for the flush at the end. `missing` will not count the frame of this packet."""
        images: list[av.VideoFrame] = []
        self._failed, self._failed_at = self._failed + 1, inf if packet is None else _stamp(packet)
        if self._rejects and packet is not None:
            self._lenient = self._lenient or av.CodecContext.create("mjpeg", "r")
            with suppress(av.FFmpegError):
                images = self._lenient.decode(packet)
            for image in images:
                image.time_base = packet.time_base
                self._damaged_since = _stamp(packet)
        return images

    def missing(self, image: av.VideoFrame | None) -> int:
        """Returns the number of newly missing frames before this one.

        None stands for the end. Must be called for every frame."""
        stamp = inf if image is None else _stamp(image)
        gaps = [gap for gap in self._gaps if gap[0] <= stamp]
        self._gaps = [gap for gap in self._gaps if gap[0] > stamp]
        count, unreadable = sum(gap[1] for gap in gaps), sum(gap[2] for gap in gaps)
        overdue = {at for at in self._expected if at < stamp}
        self._expected -= {*overdue, stamp}
        if stamp < self._counted_at:  # the timestamps went back
            self._expected.clear()
            overdue.clear()
            self._failed = 0
        failed = min(unreadable + len(overdue), self._failed)
        self._failed -= failed
        if image is not None and image.key_frame and stamp > self._failed_at:
            self._failed = 0
        if self._counted_at > -inf:  # frames before the first one shown do not count
            count += len(overdue)
        self._counted_at = stamp
        return max(0, count - failed)

    def damaged(self, image: av.VideoFrame) -> int:
        """Returns the number of newly damaged frames up to this one. Must be called for every frame."""
        stamp = self._last_shown = _stamp(image)
        owed, self._uncounted = self._uncounted, 0
        if image.key_frame and stamp > self._damaged_since:
            self._damaged_since = inf
        if image.is_corrupt:
            self._damaged_since = min(self._damaged_since, stamp)
        return owed + (stamp >= self._damaged_since)


def _stamp(item: av.Packet[Any] | av.VideoFrame) -> float:
    stamp = item.dts if item.pts is None else item.pts
    return -inf if stamp is None else stamp
