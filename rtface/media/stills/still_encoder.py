"""The frames of a film as the bytes of stills."""

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
    """Encodes each frame as a still, upright, at the film's own depth.

    Args:
        info: the input.
        kind: of the stills: "png", "tiff", "dpx" or "exr".
        source: the folder that is read as a film; None for a film.
        timecode: of the first still, for DPX and EXR; None leaves the header's.
        tags: what was done, see `rtface.media.marks.provenance.describe`; a still says as much of it as is true.

    Attributes:
        kind, source: as given.
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

    def encode(self, frame: Frame, shown: str) -> bytes | None:
        """The bytes of a frame's still; None for those of the input's file, where nothing was changed on the frame.

        Args:
            frame: of the film.
            shown: name of the still, for messages.

        Raises:
            OutputError: it cannot be encoded.
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
        return image_bytes(frame, self.kind, shown, still=still, tags=self._tags, rate=self._rate, timecode=timecode)
