"""Damaged frames that a decoder shows as if they were whole."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import av
from av.video.codeccontext import VideoCodecContext


class Concealment:
    """Tells which frames of a decoder are damaged: those of a damaged packet, those that the decoder says it repaired,
    and those behind them up to the next I-frame, which are made from them.

    Args:
        context: the decoder, not opened yet. One of MJPEG is asked to refuse damaged frames; `again` shows them.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._refuses = context.codec.canonical_name == "mjpeg"  # its decoder says nothing of what it conceals
        self._since = inf  # time of the first damaged frame since the last sound I-frame
        self._told = False  # whether the demuxer said of the packet before that it is damaged
        self._doubtful: float | None = None  # time of the packet behind that one
        self._shown, self._owed = -inf, 0
        self._lenient: VideoCodecContext | None = None
        if self._refuses:
            context.options = {**context.options, "err_detect": "explode"}

    def note(self, packet: av.Packet[Any]) -> None:
        """To be called with each packet before it is decoded."""
        # FFmpeg's parsers are a packet behind: the packet after the one that is called damaged is damaged. Where two
        # streams were joined, it is whole, and an I-frame follows.
        if (stamp := self._doubtful) is not None and stamp < self._since and not packet.is_keyframe:
            self._since = stamp
            self._owed += self._shown >= stamp
        self._doubtful = _stamp(packet) if self._told else None
        self._told = packet.is_corrupt
        if self._doubtful is not None and packet.is_keyframe:
            self._since, self._doubtful = min(self._since, self._doubtful), None

    def again(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """What can be shown of a packet that the decoder refused; empty where nothing can."""
        images: list[av.VideoFrame] = []
        if self._refuses:
            self._lenient = self._lenient or av.CodecContext.create("mjpeg", "r")
            with suppress(av.FFmpegError):
                images = self._lenient.decode(packet)
        for image in images:
            image.time_base = packet.time_base
            self._since = _stamp(packet)
        return images

    def damaged(self, image: av.VideoFrame) -> int:
        """How many damaged frames there are up to this one that were not told yet; to be asked for every frame."""
        stamp = self._shown = _stamp(image)
        owed, self._owed = self._owed, 0
        if image.key_frame and stamp > self._since:
            self._since = inf
        if image.is_corrupt:
            self._since = min(self._since, stamp)
        return owed + (stamp >= self._since)


def _stamp(item: av.Packet[Any] | av.VideoFrame) -> float:
    stamp = item.dts if item.pts is None else item.pts
    return -inf if stamp is None else stamp
