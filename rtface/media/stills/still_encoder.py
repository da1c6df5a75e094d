"""The frames of a film as the bytes of stills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rtface.frame import Frame
from rtface.media.files.image_names import IMAGE_KINDS
from rtface.media.formats.image_meta import ImageMetadata
from rtface.media.formats.tiff_tags import exif_with, order_of, read_directory
from rtface.media.marks.provenance import NAMES, Marks, without_marks
from rtface.media.read.probe import MediaInfo
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
        tags: what was done, see `rtface.media.marks.provenance.describe`; a still says as much of it as is true. None
            where corrections are taken back: the marks of the stills that are read are left out.
        own: of a run that takes corrections back, gives what the frame's still said before; None where that is unknown.

    Attributes:
        kind, source: as given.
        marks_of: gives what the still of a frame says of itself; None for a film.
    """

    def __init__(
        self,
        info: MediaInfo,
        kind: str,
        source: SequenceSource | None,
        *,
        timecode: Timecode | None = None,
        tags: Mapping[str, str] | None = None,
        own: Callable[[], Marks | None] = lambda: None,
    ) -> None:
        self.kind, self.source = kind, source
        self.marks_of = source.marks_of if source is not None else None
        self._timecode, self._tags, self._own = timecode, tags, own
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
            if self._tags is None:
                still.meta = _unmarked(still.meta, self._own())
        return image_bytes(frame, self.kind, shown, still=still, tags=self._tags, rate=self._rate, timecode=timecode)


def _unmarked(meta: ImageMetadata, own: Marks | None) -> ImageMetadata:
    """Metadata of an image without what rtface said of it, and with what it said before (`own`), where that is
    known."""
    png = [(kind, body) for kind, body in meta.png if body.split(b"\0", 1)[0].decode("latin-1") not in NAMES]
    exif, said = meta.exif, read_directory(meta.exif or b"")
    if exif and meta.tiff.get(305) == "rtface":  # the software
        exif = exif_with({tag: each for tag, each in said.items() if tag != 305}, order_of(exif))
    return replace(meta, xmp=without_marks({}, meta.xmp, own)[1], png=png, exif=exif)
