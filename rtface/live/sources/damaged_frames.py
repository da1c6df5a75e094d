"""Decodes a live source, and drops damaged frames of intra-only codecs."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import av
from av.video.stream import VideoStream

from rtface.media.read.concealment import Concealment

_RECENT_FRAMES, _MAX_DROPPED_FRAMES = 30, 15
"""Window, and maximum number of dropped frames in it: a source that is mostly damaged is shown nevertheless."""


class DamageFilter:
    """Decodes packets. Drops damaged frames of an intra-only source. Shows damaged frames of other sources, because
    later frames reference them.

    Args:
        video: stream whose decoder has not been used yet.
        counts: receives "frames_corrupt" (shown or not) and "frames_missing" (lost, or skipped by the decoder).
    """

    def __init__(self, video: VideoStream, counts: Counter[str]) -> None:
        self._concealment = Concealment(video.codec_context)
        self._intra_only = video.codec_context.codec.intra_only
        self._recent: deque[bool] = deque(maxlen=_RECENT_FRAMES)
        self._counts = counts

    def decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """Returns the frames to show. Raises av.FFmpegError for an undecodable packet."""
        self._concealment.note(packet)
        try:
            images: list[av.VideoFrame] = packet.decode()
        except av.FFmpegError:
            if not (images := self._concealment.again(packet)):
                raise
        return [image for image in images if self._is_shown(image)]

    def _is_shown(self, image: av.VideoFrame) -> bool:
        count = self._concealment.damaged(image)
        self._counts["frames_corrupt"] += count
        self._counts["frames_missing"] += self._concealment.missing(image)
        self._recent.append(count > 0)
        return not (count and self._intra_only) or sum(self._recent) > _MAX_DROPPED_FRAMES
