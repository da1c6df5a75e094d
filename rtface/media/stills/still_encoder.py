"""Encodes frames of a film as stills."""

from __future__ import annotations

from collections.abc import Mapping

from rtface.frame import Frame
from rtface.media.files.image_names import IMAGE_KINDS
from rtface.media.read.media_info import MediaInfo
from rtface.media.stills.image_read import read_origin
from rtface.media.stills.image_write import image_bytes
from rtface.media.stills.sequence import SequenceSource
from rtface.util.timecode import Timecode


class StillEncoder:
    """Encodes each frame as an upright still at the film's depth.

    Args:
        info: description of the input.
        kind: kind of the stills: "png", "tiff", "dpx" or "exr".
        source: the folder that is read as a film; None if the input is a film.
        timecode: timecode of the first still, for DPX and EXR; None keeps the timecodes in the headers.
        tags: result of `rtface.media.marks.provenance.describe`; a still gets the tags that apply to it.

    Attributes:
        kind, source: the arguments as given.
    """

    def __init__(
        self,
        info: MediaInfo,
        kind: str,
        source: SequenceSource | None,
        *,
        timecode: Timecode | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.source = kind, source
        self._timecode, self._tags = timecode, tags
        self._rate, self._origin = info.rate, info.start or info.video_start
        self._enlarged = info.decoded is not None

    def encode(self, frame: Frame, name: str) -> bytes | None:
        """Encodes a frame as a still. Returns None if the input's file can be copied unchanged.

        Args:
            frame: a frame of the film.
            name: name of the still, for messages.

        Raises:
            OutputError: the still cannot be encoded.
        """
        still, timecode = None, None
        if self._timecode is not None:
            frames = round((frame.pts * frame.time_base - self._origin) * self._rate)
            timecode = self._timecode.plus(frames)
        if self.source is not None and (path := self.source.path_of(frame)):
            if (
                not (frame.touched or frame.filtered or self._enlarged)
                and IMAGE_KINDS.get(path.suffix.lower()) == self.kind
                and timecode is None
            ):
                return None
            still = read_origin(path)
        return image_bytes(frame, self.kind, name, still=still, tags=self._tags, rate=self._rate, timecode=timecode)
